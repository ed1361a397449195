"""The starter model `digits`, trained through the public API of a running Fovea that has no model yet."""

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from cli.errors import CliError
from fovea_client import Fovea, Job, Unreachable

NAME = "digits"
REQUEST: dict[str, Any] = {
    "model": NAME,
    "dataset": "builtin:digits",
    "architecture": "lenet5",
    "weights": "none",
    "promote": "always",
    # Of a network this small nothing is faster.
    "variants": "none",
}


class WaitInterrupted(CliError):
    """The waiting was ended from outside."""


def has_models(client: Fovea) -> bool:
    return next(client.models.list(), None) is not None


def has_starter(client: Fovea) -> bool:
    return any(model.name == NAME for model in client.models.list())


def follow_starter(
    client: Fovea,
    is_stopping: Callable[[], bool] = lambda: False,
    poll_s: float = 0.5,
    timeout_s: float = 30.0,
) -> Iterator[Job]:
    """Start the fine-tune, or join the one that an interrupted start left behind; yields the job as it changes.

    The gateway may restart meanwhile: it may be silent for `timeout_s`. Raises WaitInterrupted as soon as
    `is_stopping`, and what the client raises.
    """
    # The same key at every try, so that an answer lost on its way does not start a second job.
    key = f"starter-{uuid.uuid4()}"
    seen: Job | None = None
    heard = time.monotonic()
    while not is_stopping():
        try:
            if seen is None:
                job = _unfinished(client) or client.finetune(**REQUEST, idempotency_key=key)
            else:
                job = seen.refresh()
            heard = time.monotonic()
        except Unreachable:
            if time.monotonic() - heard > timeout_s:
                raise
        else:
            if job != seen:
                seen = job
                yield job
            if job.is_over:
                return
        time.sleep(poll_s)
    raise WaitInterrupted("stopped before the starter model was ready; the next start goes on with it")


def _unfinished(client: Fovea) -> Job | None:
    jobs = (job for state in ("running", "queued") for job in client.jobs.list(state=state, kind="finetune"))
    return next((job for job in jobs if job.request.get("model") == NAME), None)
