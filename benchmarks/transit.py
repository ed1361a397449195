"""`python -m benchmarks.transit`: what several transit servers cost, and how evenly a gateway spreads images over
them.

The gateway's own exchange sends batches to a worker's own code, which answers them without looking at an image:
what is left is what an image costs on its way. One, two and four servers are measured in turn, in another order
each round. All of it is on one machine, where more servers can be no faster: what can be seen is whether they are
slower.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import psutil
import structlog

from benchmarks.scale import BATCH, Image, Meter, private_redis
from service.background import Background
from service.batch_queue import QUEUE, BatchQueue
from service.exchange import CeleryExchange
from service.line import open_lines
from workers.celery_app import KEY_PREFIX, make_celery
from workers.contract.messages import ClassifyBatch, ClassifyReply, ClassScore, ImageOutcome, decode
from workers.inference.quarantine import Quarantine
from workers.inference.tasks import send_reply
from workers.redis_url import connect, connect_async
from workers.transit import Transit, transit_servers

AT_ONCE = 4
OUTCOME = ImageOutcome(tuple(ClassScore(n, f"class {n}", 0.2) for n in range(5)))


@dataclass(frozen=True)
class Spread:
    """Of one image: processor microseconds; `shares` are those of the images that each server had."""

    servers: int
    rate: float
    redis_us: float
    busiest_us: float
    gateway_us: float
    worker_us: float
    shares: tuple[float, ...]


def measure(servers: int, batches: int, size: int) -> Spread:
    """So many batches over so many servers, all of them started for it."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(private_redis())
        urls = [stack.enter_context(private_redis()) for _ in range(servers)]
        command = [sys.executable, "-m", "benchmarks.transit", "--answer", broker, ",".join(urls)]
        worker = stack.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        stack.callback(worker.terminate)
        return asyncio.run(_measure(broker, urls, worker.pid, batches, bytes(size)))


async def _measure(broker: str, urls: Sequence[str], worker: int, batches: int, image: bytes) -> Spread:
    sent = [0] * len(urls)

    def count(number: int) -> None:
        sent[number - 1] += 1

    lines = open_lines(transit_servers(",".join(urls)))
    queue = BatchQueue(make_celery(broker), connect_async(broker))
    exchange = CeleryExchange(queue, lines, lambda: tuple(lines), ttl_s=60, on_sent=count)
    background = Background()
    for server in lines:
        background.start("listen", exchange.listen(server))
    try:
        await _send(exchange, AT_ONCE * 4, image)
        sent[:] = [0] * len(urls)
        meters = [Meter(url) for url in urls]
        cpu, began = _cpu(worker), time.monotonic()
        await _send(exchange, batches, image)
        seconds = time.monotonic() - began
        gateway, answering = (after - before for after, before in zip(_cpu(worker), cpu, strict=True))
        used = [meter.used()["us"] for meter in meters]
    finally:
        await background.close()
        await exchange.aclose()
        exchange.close()
    images = batches * BATCH
    return Spread(
        len(urls),
        images / seconds,
        sum(used) / images,
        max(used) / images,
        gateway * 1e6 / images,
        answering * 1e6 / images,
        tuple(count / batches for count in sent),
    )


def _cpu(worker: int) -> tuple[float, float]:
    """Processor seconds of this process and of the worker."""
    times = psutil.Process(worker).cpu_times()
    return time.process_time(), times.user + times.system


async def _send(exchange: CeleryExchange, batches: int, image: bytes) -> None:
    left = iter(range(batches))

    async def client() -> None:
        for _ in left:
            name, now = uuid4().hex, time.time()
            images = [image] * BATCH
            place = exchange.place(name, images)
            batch = ClassifyBatch(
                name,
                place.reply_to,
                "m",
                1,
                "models/m/1/",
                place.images,
                ("r",),
                5,
                now + 60,
                now,
                server=place.server,
            )
            await exchange.ask(batch, images)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


def answer(broker: str, transit: str) -> None:
    """A worker that fetches the images of each batch and answers without looking at them, until SIGTERM."""
    quarantine = Quarantine(Transit.open(transit), "worker@here:1:abcdef")
    with connect(broker) as client:
        while True:
            popped = client.brpop([KEY_PREFIX + QUEUE.value], timeout=1)
            if popped:
                (payload, *_), *_ = json.loads(base64.b64decode(json.loads(popped[1])["body"]))
                batch = decode(ClassifyBatch, payload)
                fetched = quarantine.take(batch).images
                reply = ClassifyReply(batch.batch, quarantine.worker, "cpu", (OUTCOME,) * len(fetched))
                send_reply(quarantine, batch, reply)


def table(rounds: Sequence[Sequence[Spread]]) -> str:
    """The medians of all rounds; rates as ratios to one server within each round."""
    lines = [
        "| servers | rate, of one's | Redis, all | Redis, the busiest | gateway | worker | share of each server |",
        "|---" * 7 + "|",
    ]
    for servers in sorted(spread.servers for spread in rounds[0]):
        mine = [next(spread for spread in spreads if spread.servers == servers) for spreads in rounds]
        ones = [min(spreads, key=lambda spread: spread.servers) for spreads in rounds]
        ratio = statistics.median(one.rate / first.rate for one, first in zip(mine, ones, strict=True))
        cells = [
            f"{statistics.median(getattr(spread, name) for spread in mine):.0f} us"
            for name in ("redis_us", "busiest_us", "gateway_us", "worker_us")
        ]
        shares = [statistics.median(column) for column in zip(*(spread.shares for spread in mine), strict=True)]
        lines.append(
            f"| {servers} | {ratio:.2f} | {' | '.join(cells)} | {', '.join(f'{share:.0%}' for share in shares)} |"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transit", description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=400, help=f"of {BATCH} images, in each measurement")
    parser.add_argument("--image-bytes", type=int, default=Image.size)
    parser.add_argument("--answer", nargs=2, metavar=("BROKER", "TRANSIT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.answer:
        answer(*options.answer)
        return 0
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rounds = []
    for number in range(options.rounds):
        order = options.servers if number % 2 == 0 else options.servers[::-1]
        rounds.append([measure(servers, options.batches, options.image_bytes) for servers in order])
        print(f"round {number + 1}: {', '.join(f'{s.servers}: {s.rate:,.0f} images/s' for s in rounds[-1])}")
    what = f"one image of {options.image_bytes:,} bytes; medians of {options.rounds} rounds"
    print(f"\nmicroseconds of a core for {what}\n")
    print(table(rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
