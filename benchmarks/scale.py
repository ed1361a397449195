"""What grows with what: `python -m benchmarks.scale` measures the shared parts and reckons where a fleet is full.

The costs of Redis and of looking after workers are measured here, on private servers, in processor time and bytes
for each image, message, heartbeat and look, so that a busy machine does not spoil them. A fleet is then reckoned
from these and from the bench's cost of an image in worker and gateway. Nothing of a network is simulated.
"""

import argparse
import asyncio
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cli.up.redis_server import find_redis, redis_url, transit_arguments
from service.lookout import Lookout
from workers.celery_app import make_celery, run_consumer
from workers.contract.messages import Heartbeat
from workers.contract.queues import Queue, TaskName
from workers.heartbeat import beat_once
from workers.redis_url import connect, connect_async

BATCH = 8
REPLY_BYTES = 600
# Images that lie in the transit server while the workers are looked for.
IN_TRANSIT = 5000
# How full a core, or a link, may be before waiting times grow without a bound.
FULL = 0.7
LINK_BYTES = 10e9 / 8


@dataclass(frozen=True)
class Image:
    """The bench's processor milliseconds for one image (docs/benchmarks.md), and its bytes."""

    worker_ms: float = 10.3
    gateway_ms: float = 1.6
    size: int = 110_000


@dataclass(frozen=True)
class Costs:
    """Processor microseconds on the Redis servers and in a gateway, and bytes on the transit server's link."""

    transit_us: float
    transit_bytes: float
    broker_us: float
    idle_commands: float
    idle_us: float
    beat_us: float
    look_redis_us: float
    look_gateway_us: float
    look_bytes: float


@dataclass(frozen=True)
class Fleet:
    """What a number of workers can do, and how full everything else is then: 1.0 is a whole core or link."""

    workers: int
    rate: float
    gateways: int
    transit_core: float
    transit_link: float
    broker_core: float
    beats_core: float
    looks_of_gateway: float

    @property
    def full(self) -> dict[str, float]:
        return {
            "transit Redis, core": self.transit_core + self.beats_core,
            "transit Redis, link": self.transit_link,
            "broker Redis, core": self.broker_core,
            "looks, of each gateway's core": self.looks_of_gateway,
        }


def reckon(
    workers: int,
    costs: Costs,
    image: Image,
    *,
    cores: int = 4,
    servers: int = 1,
    beat_s: float = 0.3,
    look_s: float = 0.25,
) -> Fleet:
    """The fleet at the rate that its workers can do; with as many gateways as that rate needs.

    Images are spread over the transit `servers`; each of them has all heartbeats and is looked at by every
    gateway. What is told of a transit server is told of any one of them.
    """
    rate = FULL * workers * cores * 1e3 / image.worker_ms
    looks_of_gateway = servers * costs.look_gateway_us * workers / look_s / 1e6
    gateways = max(1, math.ceil(rate * image.gateway_ms / 1e3 / max(0.1, FULL - looks_of_gateway)))
    looks = gateways / look_s
    # A link carries as much each way: images go in once and out once, looks come out.
    link = rate / servers * costs.transit_bytes / 2 + looks * costs.look_bytes * workers
    return Fleet(
        workers,
        rate,
        gateways,
        rate / servers * costs.transit_us / 1e6,
        link / LINK_BYTES,
        (rate / BATCH * costs.broker_us + workers * costs.idle_us) / 1e6,
        (workers / beat_s * costs.beat_us + looks * workers * costs.look_redis_us) / 1e6,
        looks_of_gateway,
    )


def most_workers(costs: Costs, image: Image, *, cores: int, servers: int = 1) -> tuple[int, str]:
    """How many workers one broker and so many transit servers carry, and what is full with one more."""
    workers = 1
    while max(reckon(workers + 1, costs, image, cores=cores, servers=servers).full.values()) <= FULL:
        workers += 1
    shares = reckon(workers + 1, costs, image, cores=cores, servers=servers).full
    return workers, max(shares, key=lambda name: shares[name])


def measure(
    image: Image, *, workers: int = 200, images: int = 2000, messages: int = 400, idle_s: float = 4.0
) -> Costs:
    """All costs, on Redis servers that are started for it."""
    with private_redis() as url:
        transit = _transit(url, image.size, images)
    with private_redis() as url:
        broker = _broker(url, messages, idle_s)
    with private_redis() as url:
        return Costs(*transit, *broker, *_signs(url, workers))


@contextmanager
def private_redis() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="fovea-scale-", dir="/tmp") as folder:
        socket = Path(folder) / "redis.sock"
        command = transit_arguments(find_redis(), socket)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not socket.exists():
                time.sleep(0.01)
            yield redis_url(socket)
        finally:
            process.terminate()
            process.wait(10)


class Meter:
    """What a Redis server has used since the meter was made."""

    def __init__(self, url: str) -> None:
        self._client = connect(url)
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        cpu, stats = self._client.info("cpu"), self._client.info("stats")
        return {
            "us": (cpu["used_cpu_user"] + cpu["used_cpu_sys"]) * 1e6,
            "bytes": stats["total_net_input_bytes"] + stats["total_net_output_bytes"],
            "commands": stats["total_commands_processed"],
        }

    def used(self) -> dict[str, float]:
        after = self._read()
        self._client.close()
        return {name: after[name] - before for name, before in self._before.items()}


def _transit(url: str, size: int, images: int) -> tuple[float, float]:
    """Of one image: in, out, its part of the reply and of what frees it; in the commands that Fovea sends."""
    data = bytes(size)
    meter = Meter(url)
    with connect(url) as gateway, connect(url) as worker:
        for batch in range(images // BATCH):
            keys = [f"image:{batch}:{number}" for number in range(BATCH)]
            with gateway.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.set(key, data, px=60_000)
                pipe.execute()
            worker.mget(keys)
            with worker.pipeline(transaction=False) as pipe:
                pipe.rpush("reply", b"x" * REPLY_BYTES * BATCH).expire("reply", 60).unlink(*keys)
                pipe.execute()
            gateway.blpop(["reply"], timeout=5)
    used = meter.used()
    done = images // BATCH * BATCH
    return used["us"] / done, used["bytes"] / done


def _signs(url: str, workers: int) -> tuple[float, float, float, float]:
    """Of one heartbeat on Redis; and of one look at one worker: on Redis, in the gateway, in bytes."""
    beats = [
        Heartbeat(f"inference@host-{n}:{n}:abcdef", ("inference.interactive", "inference.bulk"), 4, "cpu",
                  ("CPUExecutionProvider",), tuple(f"models/m{m}/job/attempt" for m in range(3)), 1.0)
        for n in range(workers)
    ]  # fmt: skip
    rounds = max(1, 4000 // workers)
    with connect(url) as client, client.pipeline(transaction=False) as pipe:
        for number in range(IN_TRANSIT):
            pipe.set(f"image:{number}", b"x")
        pipe.execute()
    meter = Meter(url)
    with connect(url) as client:
        for _ in range(rounds):
            for beat in beats:
                beat_once(client, beat, ttl_s=600)
    beat_us = meter.used()["us"] / (rounds * workers)

    async def look(times: int) -> float:
        async with connect_async(url) as transit:
            lookout = Lookout(transit)
            await lookout.refresh()
            if len(lookout.workers) != workers:
                raise RuntimeError(f"{len(lookout.workers)} of {workers} workers were seen")
            began = time.process_time()
            for _ in range(times):
                await lookout.refresh()
            return (time.process_time() - began) * 1e6 / times / workers

    looks = 60
    meter = Meter(url)
    gateway_us = asyncio.run(look(looks - 1))
    used = meter.used()
    return beat_us, used["us"] / looks / workers, gateway_us, used["bytes"] / looks / workers


def _broker(url: str, messages: int, idle_s: float) -> tuple[float, float, float]:
    """Of one message through Celery, sent to acknowledged; commands and time of an idle worker each second."""
    app = make_celery(url)
    meter = Meter(url)
    time.sleep(idle_s)
    # What the server does for itself.
    alone_us = meter.used()["us"] / idle_s
    command = [sys.executable, "-m", "benchmarks.scale", "--consume", url]
    with connect(url) as client, subprocess.Popen(command, stdin=subprocess.DEVNULL) as consumer:
        try:
            _send(app, 1)
            _await(client, "consumed", 1)
            meter = Meter(url)
            time.sleep(idle_s)
            idle = meter.used()
            meter = Meter(url)
            began = time.monotonic()
            _send(app, messages)
            _await(client, "consumed", 1 + messages)
            used, seconds = meter.used(), time.monotonic() - began
        finally:
            consumer.terminate()
            consumer.wait(20)
            app.close()
    idle_us = idle["us"] / idle_s
    return (used["us"] - idle_us * seconds) / messages, idle["commands"] / idle_s, max(0.0, idle_us - alone_us)


def _send(app: Any, count: int) -> None:
    payload = {"batch": "b" * 32, "images": [f"fovea:image:{'i' * 32}:{number}" for number in range(BATCH)]}
    for _ in range(count):
        app.send_task(TaskName.CLASSIFY_BATCH.value, (payload,), argsrepr="", kwargsrepr="")


def _await(client: Any, key: str, count: int, patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while int(client.get(key) or 0) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} messages were not consumed within {patience_s} s")
        time.sleep(0.05)


def consume(url: str) -> None:
    """A worker that counts messages and does nothing with them, until SIGTERM."""
    app, counter = make_celery(url, role="inference"), connect(url)

    @app.task(name=TaskName.CLASSIFY_BATCH.value, ignore_result=True)
    def count(_payload: dict[str, Any]) -> None:
        counter.incr("consumed")

    run_consumer(app, "scale@here", [Queue.INTERACTIVE.value, Queue.BULK.value], 2)


def table(fleets: Sequence[Fleet]) -> str:
    lines = [
        "| workers | images/s | gateways | " + " | ".join(fleets[0].full) + " |",
        "|---" * (3 + len(fleets[0].full)) + "|",
    ]
    for fleet in fleets:
        cells = [f"**{share:.2f}**" if share > FULL else f"{share:.2f}" for share in fleet.full.values()]
        lines.append(f"| {fleet.workers:,} | {fleet.rate:,.0f} | {fleet.gateways} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--transit", type=int, nargs="+", default=[1, 2, 4], help="numbers of transit servers")
    parser.add_argument("--cores", type=int, default=4, help="cores of a worker")
    parser.add_argument("--worker-ms", type=float, default=Image.worker_ms, help="CPU of one image in a worker")
    parser.add_argument("--image-bytes", type=int, default=Image.size)
    parser.add_argument("--consume", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.consume:
        consume(options.consume)
        return 0
    image = Image(worker_ms=options.worker_ms, size=options.image_bytes)
    costs = measure(image)
    print("\n".join(f"{name:16} {value:12,.1f}" for name, value in asdict(costs).items()))
    print(f"worker core      {1e3 / image.worker_ms:12,.1f} images/s")
    print(f"gateway cores    {image.gateway_ms:12,.1f} for 1,000 images/s\n")
    for servers in options.transit:
        most, full = most_workers(costs, image, cores=options.cores, servers=servers)
        print(f"{servers} transit: {most} workers of {options.cores} cores; then full: {full}")
    print()
    print(table([reckon(workers, costs, image, cores=options.cores) for workers in options.workers]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
