"""Whether images can be classified now, which is all that the protocol asks. Training may be away."""

import asyncio

from service.parts import Parts
from storage.errors import StorageError
from workers.contract.queues import Queue


async def of_server(parts: Parts) -> bool:
    """Database, queue and an inference worker answer, and this gateway is not about to end."""
    if not of_workers(parts):
        return False
    try:
        broker, _ = await asyncio.gather(
            asyncio.to_thread(parts.dispatcher.ping), asyncio.to_thread(parts.database.check_tables)
        )
    except StorageError:
        return False
    return bool(broker["ok"])


def of_workers(parts: Parts) -> bool:
    return not parts.draining.has_begun and bool(parts.workforce.on(Queue.INTERACTIVE))
