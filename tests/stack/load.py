"""Classifications one after another, all through what is done to the project, and what became of them."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from answers import Answers
from digits import Digits
from log import require
from project import Project, wait_until

from fovea_client import ApiError, Fovea, Unreachable

CLASSES = 10
# What a client may be told while parts are being taken away; anything else is a fault.
MAY_BE_TOLD = {
    "unreachable", "no_worker", "broker_unavailable", "database_unavailable", "blobs_unavailable", "image_lost",
    "deadline_exceeded", "schema_mismatch",
}  # fmt: skip


@dataclass
class Load:
    """Use as a context. Every image is asked for once before it begins: later answers are held to those.

    `outcomes` counts the answers that were `same` or `different`, and the others by their code; `longest_gap_s` is
    the longest time without an answer.
    """

    project: Project
    digits: Digits
    model: str
    outcomes: Counter[str] = field(default_factory=Counter)
    longest_gap_s: float = 0.0
    _answers: Answers = field(default_factory=Answers)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._images = {path.name: path.read_bytes() for path in self.digits.unseen}
        with self.project.client() as client:
            for name, image in self._images.items():
                self._compare(client, name, image)
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def go_on(self, answers: int) -> None:
        """Until so many more images were classified. Raises StepFailed."""
        enough = self.outcomes["same"] + answers
        wait_until(lambda: self.outcomes["same"] >= enough, f"{answers} answers, the same as before")

    def check(self) -> None:
        """No answer differed from before or came from another version, and no error was a fault of ours.

        Raises StepFailed.
        """
        different = self._answers.different
        require(not different, f"{len(different)} answers differ from those before; the first: {different[:3]}")
        require(len(self._answers.versions()) == 1, f"several versions answered: {self._answers.versions()}")
        unexpected = set(self.outcomes) - MAY_BE_TOLD - {"same"}
        require(not unexpected, f"clients were told {unexpected}: {self.outcomes}")

    def describe(self) -> str:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        return (
            f"{outcomes}; {self.outcomes['different']} differ from before; "
            f"longest time without an answer {self.longest_gap_s:.1f} s"
        )

    def _compare(self, client: Fovea, name: str, image: bytes) -> str:
        found = client.classify(image, model=self.model, top_k=CLASSES)
        return self._answers.compare(name, {"version": found.version, "predictions": [found.to_dict()]})

    def _send(self) -> None:
        answered = time.monotonic()
        with self.project.client(10.0) as client:
            while not self._stop.is_set():
                for name, image in self._images.items():
                    try:
                        self.outcomes[self._compare(client, name, image)] += 1
                        self.longest_gap_s = max(self.longest_gap_s, time.monotonic() - answered)
                        answered = time.monotonic()
                    except ApiError as error:
                        self.outcomes[error.code] += 1
                    except Unreachable:
                        self.outcomes["unreachable"] += 1
                    if self._stop.wait(0.05):
                        break
        self.longest_gap_s = max(self.longest_gap_s, time.monotonic() - answered)
