"""Jobs that nobody waits for give way to those that somebody waits for. Knows no torch."""

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator

import structlog

from storage.errors import StorageError
from storage.job_ledger import JobLedger
from workers.contract.queues import TAKES_PRECEDENCE

# Another worker that has nothing to do takes a job in less, and then nobody need give way.
PATIENCE_S = 1.0
POLL_S = 0.5
# A job that gives way has nothing to keep, so that it need not come to its next step.
GRACE_S = 3.0

log = structlog.get_logger()


def is_asked_for(ledger: JobLedger) -> bool:
    """Whether a job waits that takes precedence. While the database cannot be asked, none does."""
    try:
        return ledger.has_waiting(TAKES_PRECEDENCE, PATIENCE_S)
    except StorageError as error:
        log.warning("training.precedence_unknown", reason=str(error))
        return False


@contextlib.contextmanager
def giving_way(
    process: "subprocess.Popen[str]", ledger: JobLedger, kill: Callable[[], None]
) -> Iterator[threading.Event]:
    """While the block runs, ends the process once a job waits that takes precedence; the event tells of it.

    It is asked to give its job back, and killed if it has not ended within moments.
    """
    over, has_given_way = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            if is_asked_for(ledger):
                log.info("trainer.gives_way", pid=process.pid)
                has_given_way.set()
                process.terminate()
                if not over.wait(GRACE_S):
                    kill()
                return

    thread = threading.Thread(target=watch, name="precedence", daemon=True)
    thread.start()
    try:
        yield has_given_way
    finally:
        over.set()
        thread.join()
