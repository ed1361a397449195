"""One process per core that classifies images out of its own memory: `python -m benchmarks.loop KIND ...`.

The child loads everything, says so, and then measures whenever a line on its standard input tells it to.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.figure import Figure
from benchmarks.limit import CLASSIFIERS, Classifier
from benchmarks.machine import busy_seconds
from benchmarks.processes import memory

WARM_UP = 3
# Both children must have read their line before either begins.
START_DELAY_S = 0.2


class Loops:
    """`cores` children that run the loop `kind`. They are idle between measurements."""

    def __init__(self, kind: str, artifacts: Path, photographs: Sequence[Path], cores: int) -> None:
        self.kind = kind
        self.cores = cores
        command = [sys.executable, "-m", "benchmarks.loop", kind, str(artifacts)]
        starts = [core * len(photographs) // cores for core in range(cores)]
        self._children = [
            subprocess.Popen(
                [*command, str(start)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            for start in starts
        ]
        for child in self._children:
            _write(child, [str(path) for path in photographs])

    def __enter__(self) -> "Loops":
        try:
            for child in self._children:
                _read(child)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The children end when there is nothing more to read."""
        for child in self._children:
            with contextlib.suppress(BrokenPipeError):
                child.communicate(timeout=30)

    def measure(self, seconds: float) -> Figure:
        """All children at once for `seconds`."""
        busy = busy_seconds()
        began = time.time()
        for child in self._children:
            _write(child, {"begin": began + START_DELAY_S, "seconds": seconds})
        results = [_read(child) for child in self._children]
        busy = busy_seconds() - busy
        lasted = time.time() - began
        held = memory({str(child.pid): child.pid for child in self._children})
        images = sum(result["images"] for result in results)
        rate = sum(result["images"] / result["seconds"] for result in results)
        times = sorted(time_ms for result in results for time_ms in result["times_ms"])
        own = sum(result["cpu_s"] for result in results)
        return Figure(
            step=self.kind,
            images=images,
            seconds=images / rate,
            p50_ms=statistics.median(times),
            p99_ms=times[int(len(times) * 0.99)],
            cpu_ms=own / images * 1e3,
            decode_ms=sum(result["prepare_s"] for result in results) / images * 1e3,
            inference_ms=sum(result["infer_s"] for result in results) / images * 1e3,
            others=max(0.0, busy - own) / (lasted * (os.cpu_count() or 1)),
            memory_of={"each process": max(held.resident.values())},
            pss=held.proportional,
        )


def serve(kind: str, artifacts: Path, start: int) -> None:
    """The child's life."""
    photographs = [Path(path).read_bytes() for path in json.loads(sys.stdin.readline())]
    classifier = CLASSIFIERS[kind](artifacts)
    photographs = photographs[start:] + photographs[:start]
    for data in photographs[:WARM_UP]:
        classifier.infer(classifier.prepare(data))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(_loop(classifier, photographs, order["begin"], order["seconds"])), flush=True)


def _loop(classifier: Classifier, photographs: Sequence[bytes], begin: float, seconds: float) -> dict[str, Any]:
    """The processor times are those of all threads of the process, so ONNX Runtime's helpers count as well."""
    time.sleep(max(0.0, begin - time.time()))
    times_ms: list[float] = []
    prepare_s = infer_s = 0.0
    cpu = time.process_time()
    started = last = time.perf_counter()
    while last - started < seconds:
        before = time.process_time()
        pixels = classifier.prepare(photographs[len(times_ms) % len(photographs)])
        prepared = time.process_time()
        classifier.infer(pixels)
        prepare_s += prepared - before
        infer_s += time.process_time() - prepared
        now = time.perf_counter()
        times_ms.append((now - last) * 1e3)
        last = now
    return {
        "images": len(times_ms),
        "seconds": last - started,
        "times_ms": times_ms,
        "prepare_s": prepare_s,
        "infer_s": infer_s,
        "cpu_s": time.process_time() - cpu,
    }


def _write(child: subprocess.Popen[str], value: Any) -> None:
    if child.stdin is None:
        raise ChildEnded("a measuring process has no standard input")
    child.stdin.write(json.dumps(value) + "\n")
    child.stdin.flush()


def _read(child: subprocess.Popen[str]) -> Any:
    line = child.stdout.readline() if child.stdout else ""
    if not line:
        raise ChildEnded(f"a measuring process ended with code {child.wait(10)}; its reason is above")
    return json.loads(line)


class ChildEnded(Exception):
    """A measuring process ended before it had answered."""


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
