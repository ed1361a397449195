"""How a training is told to stop. Knows no torch, so that whoever may say so need not import it."""


class Interrupted(Exception):
    """Raised by a watcher to stop a training at once.

    With `keep_best` it ends with its best weights so far; with `resume` it will be resumed, so it writes a
    checkpoint.
    """

    def __init__(self, reason: str, *, keep_best: bool = False, resume: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.keep_best = keep_best
        self.resume = resume
