"""The clients' ledger: every request that was sent, what was answered, and which fault was at work meanwhile."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# What made a request fail, where no answer came: the connection was refused, broke, or the client's time was up.
UNREACHABLE = "unreachable"
CALM = "calm"


@dataclass(frozen=True)
class Entry:
    """One request. `code` is the error's, or empty; `status` 0 where no answer came; times are monotonic seconds.

    `key` is its Idempotency-Key, the same for each repetition. `what` is what was asked, in the action's words.
    """

    action: str
    what: Json
    key: str | None
    began: float
    ended: float
    status: int
    code: str
    body: Json

    @property
    def is_accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_unknown(self) -> bool:
        """Whether it may have been done without the client knowing."""
        return self.status == 0 or self.status >= 500


@dataclass(frozen=True)
class Window:
    """A fault: from its injection until the service was ready again after it. Monotonic seconds."""

    fault: str
    began: float
    healed: float
    ready: float
    may_say: frozenset[str]
    limit_s: float = 60.0
    what: str = ""
    aftermath_s: float = 0.0

    @property
    def over(self) -> float:
        """From then on nobody may be told of it any more."""
        return self.ready + self.aftermath_s

    @property
    def recovery_s(self) -> float:
        return max(0.0, self.ready - self.healed)


@dataclass
class Ledger:
    """Grows from many threads. With `path` each entry is also a line of JSON there, to look into a run."""

    path: Path | None = None
    entries: list[Entry] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    ended_jobs: dict[str, Json] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, entry: Entry) -> Entry:
        with self._lock:
            self.entries.append(entry)
            self._write(asdict(entry))
        return entry

    def note(self, place: int, window: Window) -> None:
        """What is known of a fault by now, in the place that it has among the windows."""
        with self._lock:
            self.windows[place] = window
            self._write({**asdict(window), "may_say": sorted(window.may_say)})

    def note_ended(self, job: Mapping[str, Any]) -> None:
        """The first sight of a job that has ended: nothing of it may change any more."""
        with self._lock:
            self.ended_jobs.setdefault(str(job["id"]), dict(job))

    def _write(self, line: Json) -> None:
        if self.path:
            with self.path.open("a") as lines:
                lines.write(json.dumps(line) + "\n")

    def of(self, *actions: str) -> Iterator[Entry]:
        return (entry for entry in list(self.entries) if entry.action in actions)

    def fault_at(self, moment: float) -> str:
        """The fault that was at work then, or the last one before."""
        before = [window for window in self.windows if window.began <= moment]
        return before[-1].fault if before else CALM


def now() -> float:
    return time.monotonic()
