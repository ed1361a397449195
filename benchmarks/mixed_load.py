"""Everything that clients do with a Fovea, at once and for as long as wanted, and what came back wrongly."""

import io
import itertools
import random
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

ENDED = ("succeeded", "failed", "cancelled")
# More than any single thing takes on two busy cores.
JOB_S = 240.0
KEPT_FAULTS = 20
LITTLE_TO_LEARN: dict[str, Any] = {
    "model": "digits",
    "dataset": "builtin:digits",
    "architecture": "lenet5",
    "weights": "none",
    "recipe": {"preset": "digits", "epochs": 1},
    "variants": "none",
}
# Full is not wrong: a client is told to come again.
BUSY = (429, 503)
WRONG: Sequence[tuple[str, str, bytes, Mapping[str, str], tuple[int, ...]]] = (
    ("a text", "/v1/models/photos/classify", b"no image", {"Content-Type": "image/jpeg"}, (400, 415, 422)),
    ("a cut JPEG", "/v1/models/photos/classify", b"\xff\xd8\xff\xe0" + bytes(200), {}, (400, 415, 422)),
    ("no JSON", "/v1/finetunes", b"{", {"Content-Type": "application/json"}, (400, 422)),
    ("an unknown model", "/v1/models/nobody/classify", b"\xff\xd8\xff", {"Content-Type": "image/jpeg"}, (404,)),
    ("no archive", "/v1/datasets?name=x", b"no zip", {"Content-Type": "application/zip"}, (400, 415, 422)),
)  # fmt: skip


@dataclass
class Tally:
    """How often each thing was done, and what was wrong; safe to share between threads."""

    done: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self._lock:
            self.done[what] += 1

    def note(self, what: str, answer: httpx.Response) -> None:
        with self._lock:
            if answer.status_code in BUSY:
                self.busy[what] += 1
            elif len(self.faults) < KEPT_FAULTS:
                self.faults.append(f"{what}: {answer.status_code} {answer.text[:300]}")

    def fault(self, what: str) -> None:
        with self._lock:
            if len(self.faults) < KEPT_FAULTS:
                self.faults.append(what)


class MixedLoad:
    """Runs within its block against `url`, which has two versions of `photos` and two of `digits`."""

    def __init__(self, url: str, small: Sequence[Path], large: Sequence[Path], seed: int = 0) -> None:
        self.tally = Tally()
        self._client = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._small = [path.read_bytes() for path in small]
        self._large = [path.read_bytes() for path in large]
        self._random = random.Random(seed)
        self._stop = threading.Event()
        # The pause is between the end of one and the beginning of the next.
        work: Sequence[tuple[Callable[[], None], float]] = (
            (self._classify_small, 0.1),
            (self._classify_small, 0.1),
            (self._classify_large, 0.7),
            (self._classify_each_version, 0.5),
            (self._send_wrong, 0.5),
            (self._cut_off, 1.5),
            (self._classify_later, 2.0),
            (self._ingest, 5.0),
            (self._finetune, 10.0),
            (self._leave_events, 1.0),
        )
        self._threads = [threading.Thread(target=self._repeat, args=item) for item in work]

    def __enter__(self) -> "MixedLoad":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _repeat(self, work: Callable[[], None], pause_s: float) -> None:
        while not self._stop.is_set():
            try:
                work()
            except (httpx.TransportError, KeyError, ValueError) as error:
                self.tally.fault(f"{work.__name__.strip('_')}: {error!r}")
            self._stop.wait(pause_s)

    def _classify_small(self) -> None:
        self._classified("small", "photos", self._random.choice(self._small))

    def _classify_large(self) -> None:
        self._classified("12 megapixels", "photos", self._random.choice(self._large))

    def _classify_each_version(self) -> None:
        """More than fits into the budget of loaded models: one of them has to go each time."""
        for reference in ("photos:1", "digits:1", "photos:2", "digits:2"):
            self._classified("each version", reference, self._small[0])

    def _classified(self, what: str, reference: str, image: bytes) -> None:
        headers = {"Content-Type": "image/jpeg"}
        answer = self._call(what, "POST", f"/v1/models/{reference}/classify", content=image, headers=headers)
        if answer and not answer["predictions"][0]["classes"]:
            self.tally.fault(f"{what}: no class")

    def _send_wrong(self) -> None:
        for what, path, body, headers, expected in WRONG:
            answer = self._client.post(path, content=body, headers=headers)
            self.tally.count("wrong inputs")
            if answer.status_code not in expected:
                self.tally.note(what, answer)

    def _cut_off(self) -> None:
        """A client that is gone in the middle of its body."""

        def body() -> Any:
            yield self._large[0][: 2**16]
            raise ConnectionAbortedError

        with suppress(ConnectionAbortedError, httpx.TransportError):
            self._client.post("/v1/models/photos/classify", content=body(), headers={"Content-Type": "image/jpeg"})
        self.tally.count("uploads cut off")

    def _classify_later(self) -> None:
        files = [("file", (f"{number}.jpg", image, "image/jpeg")) for number, image in enumerate(self._small[:12])]
        headers = {"Prefer": "respond-async"}
        job = self._call("async classify", "POST", "/v1/models/photos/classify", files=files, headers=headers)
        if job:
            self._await("async classify", job)

    def _ingest(self) -> None:
        archive = _archive(self._random.randrange(2**31))
        headers = {"Content-Type": "application/zip"}
        query = {"name": "soak"}
        dataset = self._call("ingest", "POST", "/v1/datasets", content=archive, headers=headers, params=query)
        if dataset and self._await("ingest", dataset["job"]):
            self._call("dataset deleted", "DELETE", f"/v1/datasets/{dataset['id']}")

    def _finetune(self) -> None:
        """A new version of `digits`, promoted, taken back, and deleted."""
        job = self._call("fine-tune", "POST", "/v1/finetunes", json=LITTLE_TO_LEARN)
        ended = self._await("fine-tune", job) if job else None
        if not ended:
            return
        version = ended["result"]["version"]
        self._call("promoted", "PUT", "/v1/models/digits/aliases/production", json={"version": version})
        self._classified("the new version", "digits", self._small[0])
        self._call("promoted", "PUT", "/v1/models/digits/aliases/production", json={"version": 1})
        self._call("version deleted", "DELETE", f"/v1/models/digits/versions/{version}")

    def _leave_events(self) -> None:
        """A stream of events that its reader leaves after the first bytes, or keeps open for a while."""
        jobs = self._call("jobs listed", "GET", "/v1/jobs", params={"limit": 5})
        for number, job in enumerate((jobs or {"items": []})["items"]):
            with self._client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
                for _ in itertools.islice(stream.iter_raw(), 1):
                    self._stop.wait(0.5 * number)
            self.tally.count("events left")

    def _call(self, what: str, method: str, path: str, **options: Any) -> dict[str, Any] | None:
        answer = self._client.request(method, path, **options)
        if not answer.is_success:
            self.tally.note(what, answer)
            return None
        self.tally.count(what)
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def _await(self, what: str, job: Mapping[str, Any]) -> dict[str, Any] | None:
        """The job when it has succeeded; None, and a fault, where it ends in another way or not in time."""
        deadline = time.monotonic() + JOB_S
        while time.monotonic() < deadline:
            found: dict[str, Any] = self._client.get(f"/v1/jobs/{job['id']}").json()
            if found.get("state") in ENDED:
                if found["state"] == "succeeded":
                    self.tally.count(f"{what} ended")
                    return found
                self.tally.fault(f"{what}: the job is {found['state']}: {found.get('error')}")
                return None
            time.sleep(0.2)
        self.tally.fault(f"{what}: the job has not ended after {JOB_S:.0f} s")
        return None


def _archive(seed: int) -> bytes:
    """Twelve small pictures in each of two classes, of which nobody has seen any before."""
    generator = np.random.default_rng(seed)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(24):
            picture = io.BytesIO()
            pixels = generator.integers(0, 256, (90, 120, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((480, 360)).save(picture, "JPEG")
            archive.writestr(f"{'ab'[number % 2]}/{number}.jpg", picture.getvalue())
    return buffer.getvalue()
