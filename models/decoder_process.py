"""Decoding in a process of its own, from the side that asks: what ends the decoder ends nobody else.

`models.decoder` is the other side, docs/decisions/0013-what-ends-its-worker.md has the reasons.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from queue import LifoQueue
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from models import errors
from models.decoder import read, write
from models.spec import Preprocessing
from system.ending import ending, oom_kills

# Many times what the most costly picture takes that is let through.
LONGEST_S = 60.0
CLOSING_S = 5.0


class DecoderDied(Exception):
    """The file in hand ended the decoder; the text says how, in a few words."""


class DecoderProcess:
    """One process, started when it is first needed and again after each death; used by one thread at a time.

    With `background` it leaves the cores to whatever else wants them.
    """

    def __init__(self, *, background: bool = False) -> None:
        self._arguments = ["19"] if background else []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "DecoderProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prepare(self, content: bytes, preprocessing: Preprocessing, max_pixels: int) -> NDArray[np.uint8]:
        """As `models.preprocess.prepare`. Raises DecoderDied, too."""
        asked = {"do": "prepare", "preprocessing": asdict(preprocessing), "max_pixels": max_pixels}
        answer, pixels = self.ask(asked, content)
        return np.frombuffer(pixels, np.uint8).reshape(answer["shape"]).copy()

    def ask(self, asked: dict[str, Any], content: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """The other side's answer. Raises DecoderDied, and the ImageError that it raised."""
        before = oom_kills()
        process = self._running()
        overdue = threading.Event()
        with _after(LONGEST_S, overdue, process):
            answered = _exchanged(_piped(process.stdin), _piped(process.stdout), asked, content)
        if answered is None:
            self.close()
            if overdue.is_set():
                raise DecoderDied(f"no end within {LONGEST_S:g} s")
            raise DecoderDied(ending(process.returncode, oom_kills_before=before))
        answer, body = answered
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["detail"])
        return answer, body

    def close(self) -> None:
        """The process ends with its input; a later request starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                _piped(stream).close()
        try:
            process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "models.decoder", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # A signal to the worker's group, as a terminal sends it, is for the worker to act upon.
                start_new_session=True,
            )
        return self._process


class DecoderPool:
    """Processes for the threads of a pool: as many as ask at once."""

    def __init__(self, *, background: bool = False) -> None:
        self._background = background
        self._idle: LifoQueue[DecoderProcess] = LifoQueue()

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._idle.empty():
            self._idle.get().close()

    @contextmanager
    def decoder(self) -> Iterator[DecoderProcess]:
        """One that nobody else uses within the block."""
        decoder = DecoderProcess(background=self._background) if self._idle.empty() else self._idle.get()
        try:
            yield decoder
        finally:
            self._idle.put(decoder)


def _exchanged(
    stdin: IO[bytes], stdout: IO[bytes], asked: dict[str, Any], content: bytes
) -> tuple[dict[str, Any], bytes] | None:
    try:
        write(stdin, asked, content)
        return read(stdout)
    except OSError:
        return None


@contextmanager
def _after(seconds: float, overdue: threading.Event, process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Kill the process if the block takes longer."""

    def kill() -> None:
        overdue.set()
        process.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _piped(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process was started without pipes")
    return stream
