"""How long work on a dataset tells how far it is."""

from collections.abc import Callable

# Called, in the caller's thread, with a phase, how much of it is done and, where that is known, of how much. What
# it raises stops the work, which then leaves nothing behind: that is how to cancel.
Progress = Callable[[str, int, int | None], None]


def no_progress(phase: str, done: int, total: int | None) -> None:
    """For who does not watch."""
