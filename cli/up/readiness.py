"""What a starting Fovea still waits for, read from `GET /readyz`."""

import time
from collections.abc import Callable

from cli.errors import StartFailed
from fovea_client import ApiError, Fovea, Readiness, Unreachable

START_S = 180.0
_ROLES = ("inference", "training")


def parts_not_ready(answer: Readiness | None) -> tuple[str, ...]:
    """The parts that are not ready, by name; empty when all are. `answer` is None while nothing answers."""
    if answer is None:
        return ("gateway",)
    if answer.is_ready:
        return ()
    named = {"database": answer.database, "broker": answer.broker, "transit": answer.transit}
    parts = [name for name, part in named.items() if not part.ok]
    return tuple(dict.fromkeys([*parts, *answer.missing])) or (answer.status,)


def working_children(answer: Readiness | None) -> tuple[str, ...]:
    """The children that have shown that they work: the gateway answers, a worker serves its queue."""
    if answer is None:
        return ()
    queues = [queue for worker in answer.workers for queue in worker.queues]
    return ("gateway", *(role for role in _ROLES if any(queue.split(".")[0] == role for queue in queues)))


def read_readiness(client: Fovea) -> Readiness | None:
    """`/readyz`, or None while the gateway does not answer yet."""
    try:
        return client.readiness()
    except (Unreachable, ApiError):
        return None


def await_ready(client: Fovea, require_alive: Callable[[], None], *, poll_s: float = 0.2) -> None:
    """Wait until all parts are ready. Raises StartFailed after `START_S`, and what `require_alive` raises."""
    deadline = time.monotonic() + START_S
    while waiting := parts_not_ready(read_readiness(client)):
        require_alive()
        if time.monotonic() > deadline:
            raise StartFailed(f"Fovea at {client.url} is not ready after {START_S:.0f} s: {', '.join(waiting)}")
        time.sleep(poll_s)
