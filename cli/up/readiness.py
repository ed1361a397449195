"""What a starting Fovea still waits for, read from `GET /readyz`."""

import time
from collections.abc import Callable

from cli.client import ApiClient, Json
from cli.errors import ApiError, StartFailed, Unreachable

START_S = 180.0
_ROLES = ("inference", "training")


def parts_not_ready(answer: Json | None) -> tuple[str, ...]:
    """The parts that are not ready, by name; empty when all are. `answer` is None while nothing answers."""
    if answer is None:
        return ("gateway",)
    if answer.get("status") == "ready":
        return ()
    parts = [
        name for name in ("database", "broker", "transit") if not (answer.get(name) or {"ok": True}).get("ok")
    ]
    missing = [str(name) for name in answer.get("missing", ())]
    return tuple(dict.fromkeys([*parts, *missing])) or (str(answer.get("status", "starting")),)


def working_children(answer: Json | None) -> tuple[str, ...]:
    """The children that have shown that they work: the gateway answers, a worker serves its queue."""
    if answer is None:
        return ()
    queues = [str(queue) for worker in answer.get("workers", ()) for queue in worker.get("queues", ())]
    return ("gateway", *(role for role in _ROLES if any(queue.split(".")[0] == role for queue in queues)))


def read_readiness(client: ApiClient) -> Json | None:
    """`/readyz`, or None while the gateway does not answer yet."""
    try:
        return client.readiness()
    except (Unreachable, ApiError):
        return None


def await_ready(client: ApiClient, require_alive: Callable[[], None], *, poll_s: float = 0.2) -> None:
    """Wait until all parts are ready. Raises StartFailed after `START_S`, and what `require_alive` raises."""
    deadline = time.monotonic() + START_S
    while waiting := parts_not_ready(read_readiness(client)):
        require_alive()
        if time.monotonic() > deadline:
            raise StartFailed(f"Fovea at {client.url} is not ready after {START_S:.0f} s: {', '.join(waiting)}")
        time.sleep(poll_s)
