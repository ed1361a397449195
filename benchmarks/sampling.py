"""What each process of a running Fovea holds, again and again: memory, descriptors, threads. Judges nothing."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import psutil

# By a word of the command line: the processes that live as long as Fovea does.
ROLES = {
    "service.main": "gateway",
    "workers.inference.main": "inference worker",
    "workers.inference.bulk": "bulk process",
    "workers.training.main": "training worker",
    "broker.sock": "broker Redis",
    "transit.sock": "transit Redis",
    "cli.main": "supervisor",
}


@dataclass(frozen=True)
class Sample:
    """At one moment, in seconds since the beginning. `pss` shares out the pages that processes share."""

    at: float
    rss: int
    pss: int
    uss: int
    descriptors: int
    threads: int


@dataclass
class Process:
    """One process of a role. Another one of the same role is another `Process`, for it began anew."""

    role: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"role": self.role, "pid": self.pid, "samples": [vars(sample) for sample in self.samples]}


class Sampler:
    """Samples the tree under `pid` every `interval_s` in a thread, within its block."""

    def __init__(self, pid: int, interval_s: float) -> None:
        self._root = psutil.Process(pid)
        self._interval_s = interval_s
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, name="sampler")
        self._processes: dict[tuple[int, float], Process] = {}

    @property
    def processes(self) -> list[Process]:
        return sorted(self._processes.values(), key=lambda process: list(ROLES.values()).index(process.role))

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def sample(self) -> None:
        """Once. A process that ends meanwhile is left out."""
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                self._add(process)
            except psutil.Error:
                continue

    def _sample_on(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                self.sample()
            except psutil.NoSuchProcess:
                # The whole Fovea is gone; who waits for it says so.
                return

    def _add(self, process: psutil.Process) -> None:
        role = role_of(process.cmdline())
        if role is None:
            return
        with process.oneshot():
            memory = process.memory_full_info()
            sample = Sample(
                at=round(self.elapsed_s, 2),
                rss=memory.rss,
                pss=getattr(memory, "pss", 0),
                uss=memory.uss,
                descriptors=process.num_fds(),
                threads=process.num_threads(),
            )
        key = (process.pid, process.create_time())
        self._processes.setdefault(key, Process(role, process.pid)).samples.append(sample)


def role_of(command: list[str]) -> str | None:
    """None for what comes and goes: trainers, and what is just being started."""
    if "-c" in command[:4]:
        # The program before the program, see `system.parent`.
        return None
    words = " ".join(command)
    return next((role for word, role in ROLES.items() if word in words), None)
