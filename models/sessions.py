"""How a batch goes through ONNX Runtime: in parts of sizes that suit the device. Knows no artifact."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Outputs = list[NDArray[np.float32]]


class Sessions(Protocol):
    def run(self, outputs: Sequence[str], given: str, pixels: Pixels) -> list[Outputs]:
        """The outputs of each part of uint8 `[n, ...]`, in order. Raises what ONNX Runtime raises."""
        ...


@dataclass(frozen=True)
class InParts:
    """One session that runs at most so many images at once; None for any number."""

    session: Any
    most: int | None = None

    def run(self, outputs: Sequence[str], given: str, pixels: Pixels) -> list[Outputs]:
        """See `Sessions`."""
        step = self.most or len(pixels)
        return [
            self.session.run(outputs, {given: pixels[start : start + step]})
            for start in range(0, len(pixels), step)
        ]


class OfFewSizes:
    """A session for each of few sizes, opened when the first part has it; parts are filled up to their size.

    On CUDA a session that meets another size than in its run before has cuDNN plan every convolution anew, also
    where it has met that size earlier: 0.1 to 1 second instead of milliseconds.
    """

    def __init__(self, first: Any, another: Callable[[], Any]) -> None:
        self._spare: Any = first
        self._another = another
        self._sessions: dict[int, Any] = {}
        self._opening = threading.Lock()

    def run(self, outputs: Sequence[str], given: str, pixels: Pixels) -> list[Outputs]:
        """See `Sessions`. Raises what opening a session raises, too."""
        found = []
        for part, size in sized_parts(pixels):
            answers = self._session_of(size).run(outputs, {given: filled_up(part, size)})
            # A graph that gives another number of rows keeps them, for whoever checks.
            found.append([rows[: len(part)] if len(rows) == size else rows for rows in answers])
        return found

    def _session_of(self, size: int) -> Any:
        with self._opening:
            if size not in self._sessions:
                self._sessions[size], self._spare = self._spare or self._another(), None
            return self._sessions[size]


def sized_parts(pixels: Pixels) -> Iterator[tuple[Pixels, int]]:
    """The pixels in parts, each with the size to run it in: 1, 4, 16 or 128.

    An H100 takes 1.5 to 3 times as long for 16 images as for one.
    """
    start = 0
    while (left := len(pixels) - start) > 0:
        size = 128 if left > 64 else 16 if left > 4 else 4 if left > 1 else 1
        yield pixels[start : start + size], size
        start += size


def filled_up(part: Pixels, size: int) -> Pixels:
    if len(part) == size:
        return part
    whole = np.zeros((size, *part.shape[1:]), part.dtype)
    whole[: len(part)] = part
    return whole
