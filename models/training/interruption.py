"""How a training is told to stop. Knows no torch, so that whoever may say so need not import it."""


class Interrupted(Exception):
    """Raised by a watcher to stop at once.

    With `keep_best` the training ends with its best weights so far; with `resume` it will be gone on with, so it
    writes a checkpoint of where it is.
    """

    def __init__(self, reason: str, *, keep_best: bool = False, resume: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.keep_best = keep_best
        self.resume = resume
