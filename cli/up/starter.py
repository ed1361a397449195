"""The starter model `digits`, trained through the public API of a running Fovea that has no model yet."""

import time
import uuid
from collections.abc import Callable, Iterator

from cli.client import ApiClient, Json, is_over
from cli.errors import CliError, Unreachable

NAME = "digits"
REQUEST: Json = {
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


def has_models(client: ApiClient) -> bool:
    return next(client.list_models(), None) is not None


def has_starter(client: ApiClient) -> bool:
    return any(model["name"] == NAME for model in client.list_models())


def follow_starter(
    client: ApiClient,
    is_stopping: Callable[[], bool] = lambda: False,
    poll_s: float = 0.5,
    timeout_s: float = 30.0,
) -> Iterator[Json]:
    """Start the fine-tune, or join the one that an interrupted start left behind; yields the job as it changes.

    The gateway may restart meanwhile: it may be silent for `timeout_s`. Raises WaitInterrupted as soon as
    `is_stopping`, and what the client raises.
    """
    # The same key at every try, so that an answer lost on its way does not start a second job.
    key = f"starter-{uuid.uuid4()}"
    seen: Json | None = None
    heard = time.monotonic()
    while not is_stopping():
        try:
            if seen is None:
                job = _unfinished(client) or client.finetune(REQUEST, key)
            else:
                job = client.get_job(seen["id"])
            heard = time.monotonic()
        except Unreachable:
            if time.monotonic() - heard > timeout_s:
                raise
        else:
            if job != seen:
                seen = job
                yield job
            if is_over(job):
                return
        time.sleep(poll_s)
    raise WaitInterrupted("stopped before the starter model was ready; the next start goes on with it")


def _unfinished(client: ApiClient) -> Json | None:
    jobs = (job for state in ("running", "queued") for job in client.list_jobs(state=state, kind="finetune"))
    return next((job for job in jobs if job["request"].get("model") == NAME), None)
