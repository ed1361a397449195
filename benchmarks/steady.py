"""Requests at a fixed rate, whether or not the earlier ones have been answered, and how long each took.

A client that waits for each answer before it asks again would ask least while the service is slow, and would not
see how slow it was.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

TIMEOUT_S = 60.0


@dataclass
class Latencies:
    """Milliseconds from the moment when a request was due to its answer; `faults` had another one than 200."""

    ms: list[float] = field(default_factory=list)
    faults: int = 0
    fault: str = ""

    def quantile(self, share: float) -> float:
        """The least latency that `share` of the requests did not exceed. Raises ValueError without any."""
        if not self.ms:
            raise ValueError("there is no latency")
        ordered = sorted(self.ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def p50(self) -> float:
        return statistics.median(self.ms)

    @property
    def p99(self) -> float:
        return self.quantile(0.99)

    def __add__(self, other: "Latencies") -> "Latencies":
        return Latencies(self.ms + other.ms, self.faults + other.faults, self.fault or other.fault)


def steady_load(
    url: str,
    photographs: Sequence[Path],
    *,
    rate: float,
    seconds: float,
    goes_on: Callable[[], bool] = lambda: True,
) -> Latencies:
    """POST one photograph `rate` times a second for `seconds`, or until `goes_on` says no."""
    return asyncio.run(_load(url, [path.read_bytes() for path in photographs], rate, seconds, goes_on))


async def _load(
    url: str, images: Sequence[bytes], rate: float, seconds: float, goes_on: Callable[[], bool]
) -> Latencies:
    latencies = Latencies()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    async with (
        httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client,
        asyncio.TaskGroup() as requests,
    ):
        began = time.perf_counter()
        for number in itertools.count():
            due = began + number / rate
            if due >= began + seconds or not goes_on():
                break
            await asyncio.sleep(due - time.perf_counter())
            requests.create_task(_ask(client, url, images[number % len(images)], due, latencies))
    return latencies


async def _ask(client: httpx.AsyncClient, url: str, image: bytes, due: float, latencies: Latencies) -> None:
    try:
        answer = await client.post(url, content=image, headers={"Content-Type": "image/jpeg"})
        wrong = "" if answer.status_code == 200 else f"{answer.status_code}: {answer.text[:200]}"
    except httpx.TransportError as error:
        wrong = repr(error)
    if wrong:
        latencies.faults += 1
        latencies.fault = latencies.fault or wrong
    else:
        latencies.ms.append((time.perf_counter() - due) * 1e3)
