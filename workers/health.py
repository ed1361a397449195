"""Whether this machine's worker lives: `python -m workers.health` ends with 0 if one was heard lately."""

import socket
import sys
from collections.abc import Iterator

from redis import Redis, RedisError

from workers.contract.queues import HEARTBEAT_PREFIX, LATE_PREFIX
from workers.redis_url import connect
from workers.settings import WorkerSettings
from workers.transit import transit_servers


def main() -> str | None:
    """What is wrong, or None. A worker gives its sign on every transit server: one that has it is enough."""
    host = socket.gethostname()
    silent = None
    for server in transit_servers(WorkerSettings().transit):
        with connect(server.url, socket_timeout=3, socket_connect_timeout=3) as transit:
            try:
                if next(heartbeats(transit, host), None):
                    return None
            except RedisError as error:
                silent = f"the transit Redis cannot be asked for heartbeats: {error}"
    return silent or f"no worker of {host} has given a heartbeat lately"


def heartbeats(transit: "Redis", host: str) -> Iterator[bytes]:
    """The keys of the heartbeats of the workers on `host`; Redis forgets a worker that has fallen silent."""
    # A worker is named ROLE@HOST:PID:RANDOM. A host's name has none of the characters that a pattern knows.
    for prefix in (HEARTBEAT_PREFIX, LATE_PREFIX):
        yield from transit.scan_iter(match=f"{prefix}*@{host}:*", count=500)


if __name__ == "__main__":
    sys.exit(main())
