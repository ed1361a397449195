"""Classifications one after another, all through what is done to the project, and what became of them."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from lesson import Lesson
from project import Project

from cli.errors import ApiError, Unreachable


@dataclass
class Load:
    """Use as a context. `longest_gap_s` is the longest time without an answer."""

    project: Project
    lesson: Lesson
    model: str
    answers: Counter[str] = field(default_factory=Counter)
    longest_gap_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def describe(self) -> str:
        answers = ", ".join(f"{count} {answer}" for answer, count in self.answers.most_common())
        return f"{answers}; longest time without an answer {self.longest_gap_s:.1f} s"

    def _send(self) -> None:
        images = self.lesson.unseen()
        answered = time.monotonic()
        with self.project.client(10.0) as client:
            while not self._stop.is_set():
                for label, image in images:
                    try:
                        (prediction,) = client.classify(image, self.model, top_k=1)["predictions"]
                        self.answers["right" if prediction["classes"][0]["label"] == label else "wrong"] += 1
                        self.longest_gap_s = max(self.longest_gap_s, time.monotonic() - answered)
                        answered = time.monotonic()
                    except ApiError as error:
                        self.answers[error.code] += 1
                    except Unreachable:
                        self.answers["unreachable"] += 1
                    time.sleep(0.05)
                    if self._stop.is_set():
                        return
