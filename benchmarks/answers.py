"""Whether a server answers what the model alone answers: no rate counts that was bought with other answers."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.load import Target
from benchmarks.plain import Classes

# Of each probability: batches and other builds of the same code differ by less.
TOLERANCE = 1e-3
ASK_S = 60.0
PAUSE_S = 0.02

# Reads the classes of one image, best first, out of the body of a server's answer.
Reader = Callable[[bytes], Classes]


class AnswerWrong(Exception):
    """A server answered otherwise than the model alone; the text says what was expected."""


class NoAnswer(Exception):
    """A server did not answer, or not with 200."""


@dataclass(frozen=True)
class Expected:
    """The probabilities of every class, float32 `[classes]`, for some photographs."""

    probabilities: Mapping[Path, NDArray[np.float32]]

    @property
    def first(self) -> Path:
        return next(iter(self.probabilities))

    def check(self, photograph: Path, body: bytes, read: Reader) -> None:
        """The best class of an answer and its probability. Raises AnswerWrong."""
        expected = self.probabilities[photograph]
        try:
            best = read(body)[0]
            index, probability = int(best["index"]), float(best["probability"])
            right, theirs = float(expected.max()), float(expected[index])
        except (ValueError, LookupError, TypeError) as error:
            raise AnswerWrong(f"{photograph.name}: no classes in {body[:200]!r}: {error!r}") from error
        if max(abs(probability - right), right - theirs) > TOLERANCE * right:
            raise AnswerWrong(
                f"{photograph.name}: class {index} with {probability:.5f}, where the model alone "
                f"says class {int(expected.argmax())} with {right:.5f}"
            )


def ask(target: Target, photograph: Path) -> bytes:
    """The body of the answer to one photograph. Raises NoAnswer."""
    headers = {"Content-Type": "image/jpeg", **target.headers}
    try:
        answer = httpx.post(target.url, content=photograph.read_bytes(), headers=headers, timeout=ASK_S)
    except httpx.TransportError as error:
        raise NoAnswer(f"{photograph.name}: {error!r}") from error
    if answer.status_code != 200:
        raise NoAnswer(f"{photograph.name} was answered {answer.status_code}: {answer.text[:500]}")
    return answer.content


def check_answers(target: Target, read: Reader, expected: Expected) -> None:
    """One after another. Raises NoAnswer and AnswerWrong."""
    for photograph in expected.probabilities:
        expected.check(photograph, ask(target, photograph), read)


def await_answer(
    target: Target, read: Reader, expected: Expected, *, within_s: float, alive: Callable[[], None]
) -> None:
    """Until the first right answer. Raises NoAnswer after `within_s`, AnswerWrong, and whatever `alive` raises."""
    deadline = time.monotonic() + within_s
    while True:
        alive()
        with suppress(NoAnswer):
            expected.check(expected.first, ask(target, expected.first), read)
            return
        if time.monotonic() > deadline:
            ask(target, expected.first)
        time.sleep(PAUSE_S)


def expect(photographs: Sequence[Path], probabilities_of: Callable[[bytes], NDArray[np.float32]]) -> Expected:
    """`probabilities_of` answers float32 `[classes]` for one encoded image."""
    return Expected({path: probabilities_of(path.read_bytes()) for path in photographs})
