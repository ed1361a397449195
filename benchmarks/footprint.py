"""What each process of a Fovea holds at rest, and at most while it works. Knows not how it was started."""

import http.client
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.sampling import role_of
from benchmarks.server import ServerFailed

SPARE = "spare trainer"
# Of a process, to be written into its clear_refs: what it holds now counts as the most that it ever held.
FORGET_PEAK = "5"
REPLY_S = 120.0


class RequestRefused(ServerFailed):
    """An image was answered otherwise than with 200; the text is the answer."""


@dataclass(frozen=True)
class Held:
    """Bytes. `peak` is the most resident since `forget_peaks`, where the system tells (Linux), else `resident`;
    `proportional` divides each page by the number of processes that share it.
    """

    resident: int
    peak: int
    proportional: int


def processes(supervisor: int) -> dict[str, psutil.Process]:
    """The processes of a `fovea up` by what they are. One that is just being started is left out."""
    root = psutil.Process(supervisor)
    found = {}
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.Error):
            command = process.cmdline()
            role = SPARE if "--spare" in command and "-c" not in command[:4] else role_of(command)
            if role:
                found[role] = process
    return found


def held(found: Mapping[str, psutil.Process]) -> dict[str, Held]:
    """Of each that still runs."""
    told = {}
    for role, process in found.items():
        with suppress(psutil.Error):
            memory = process.memory_full_info()
            told[role] = Held(memory.rss, _peak(process.pid) or memory.rss, getattr(memory, "pss", memory.uss))
    return told


def forget_peaks(found: Mapping[str, psutil.Process]) -> None:
    for process in found.values():
        with suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text(FORGET_PEAK)


def _peak(pid: int) -> int | None:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def keep_busy(url: str, photographs: Sequence[Path], *, concurrency: int, seconds: float) -> int:
    """Send JPEGs with so many requests under way; how many were answered. Raises RequestRefused, OSError."""
    ends = time.monotonic() + seconds
    answered, faults = [0] * concurrency, []

    def send(number: int) -> None:
        # Each begins with another photograph.
        bodies = cycle([path.read_bytes() for path in (*photographs[number:], *photographs[:number])])
        client = Client(url)
        try:
            while time.monotonic() < ends and not faults:
                client.classify(next(bodies))
                answered[number] += 1
        except (RequestRefused, OSError, http.client.HTTPException) as error:
            faults.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return sum(answered)


class Client:
    """One connection that sends image after image to the address of a model."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._path = address.path
        self._connection = http.client.HTTPConnection(address.netloc, timeout=REPLY_S)

    def classify(self, jpeg: bytes) -> float:
        """Seconds until the whole answer was there. Raises RequestRefused, OSError."""
        began = time.monotonic()
        self._connection.request("POST", self._path, jpeg, {"Content-Type": "image/jpeg"})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RequestRefused(f"{self._path} answered {answer.status}: {body[:300].decode(errors='replace')}")
        return time.monotonic() - began

    def close(self) -> None:
        self._connection.close()
