"""`python -m benchmarks.protocols`: what an image costs gateway and worker by each protocol, in processor time.

All protocols are measured in each round, in another order each time. Processor time depends little on who else
uses the machine. The rate is that of clients in this program, and only shows that all had the same load.
"""

import argparse
import asyncio
import base64
import itertools
import json
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import httpx
import psutil
from rich.console import Console

from benchmarks.artifacts import make_artifacts
from benchmarks.rest import Service
from benchmarks.run import make_sets
from service.protocol import open_inference_pb2 as pb

CLASSIFY, INFER = "/v1/models/bench/classify", "/v2/models/bench/infer"
RPC = "/inference.GRPCInferenceService/ModelInfer"
V1 = "/v1"
ONE_OUTPUT = [{"name": "probabilities"}]
WARM_UP = 20
# Sends an image and reads its answer.
Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class Cost:
    """Of one image: milliseconds of a core of the gateway's and of the worker's; images a second."""

    gateway_ms: float
    worker_ms: float
    rate: float

    @property
    def ms(self) -> float:
        return self.gateway_ms + self.worker_ms


async def protocols(service: Service, stack: AsyncExitStack) -> dict[str, Send]:
    """How an image is sent by each, by its name."""
    http = await stack.enter_async_context(httpx.AsyncClient(base_url=service.base_url, timeout=30))
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{service.grpc_port}"))
    rpc = channel.unary_unary(
        RPC,
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )

    async def post(path: str, content: bytes, headers: dict[str, str]) -> None:
        (await http.post(path, content=content, headers=headers)).raise_for_status()

    async def v1(image: bytes) -> None:
        await post(CLASSIFY, image, {"content-type": "image/jpeg"})

    def behind_json(**fields: object) -> Send:
        async def send(image: bytes) -> None:
            tensor = _tensor(parameters={"binary_data_size": len(image) + 4})
            head = json.dumps({"inputs": [tensor], **fields}).encode()
            content = head + struct.pack("<I", len(image)) + image
            await post(INFER, content, {"Inference-Header-Content-Length": str(len(head))})

        return send

    async def v1_json(image: bytes) -> None:
        content = json.dumps({"images": [base64.b64encode(image).decode()]}).encode()
        await post(CLASSIFY, content, {"content-type": "application/json"})

    async def in_json(image: bytes) -> None:
        tensor = _tensor(data=[base64.b64encode(image).decode()])
        content = json.dumps({"inputs": [tensor], "outputs": ONE_OUTPUT}).encode()
        await post(INFER, content, {"content-type": "application/json"})

    async def by_grpc(image: bytes) -> None:
        tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1, 1])
        wanted = pb.ModelInferRequest.InferRequestedOutputTensor(name="probabilities")
        content = struct.pack("<I", len(image)) + image
        await rpc(
            pb.ModelInferRequest(
                model_name="bench", inputs=[tensor], outputs=[wanted], raw_input_contents=[content]
            )
        )

    classes = [{"name": "probabilities", "parameters": {"classification": 5}}]
    return {
        V1: v1,
        "/v1, image in JSON": v1_json,
        "/v2, five classes": behind_json(outputs=classes),
        "/v2, probabilities behind the JSON": behind_json(
            outputs=ONE_OUTPUT, parameters={"binary_data_output": True}
        ),
        "/v2, all outputs behind the JSON": behind_json(parameters={"binary_data_output": True}),
        "/v2, image and probabilities in JSON": in_json,
        "gRPC, probabilities": by_grpc,
    }


async def measure(
    service: Service, photographs: Sequence[bytes], seconds: float, rounds: int, at_once: int
) -> None:
    """Prints each round, and the medians of all."""
    costs: dict[str, list[Cost]] = {}
    async with AsyncExitStack() as stack:
        sends = await protocols(service, stack)
        for number in range(rounds):
            names = list(sends)[number % len(sends) :] + list(sends)[: number % len(sends)]
            for name in names:
                costs.setdefault(name, []).append(
                    await cost_of(sends[name], service, photographs, seconds, at_once)
                )
            print(f"round {number + 1}: " + ", ".join(f"{name} {costs[name][-1].ms:.2f} ms" for name in sends))
    print(f"\n{table(costs)}")


async def cost_of(
    send: Send, service: Service, photographs: Sequence[bytes], seconds: float, at_once: int
) -> Cost:
    """With so many images under way."""
    images = itertools.cycle(photographs)
    await asyncio.gather(*(send(next(images)) for _ in range(WARM_UP)))
    before, began, sent = _processor_seconds(service), time.monotonic(), 0

    async def client() -> None:
        nonlocal sent
        while time.monotonic() < began + seconds:
            await send(next(images))
            sent += 1

    await asyncio.gather(*(client() for _ in range(at_once)))
    took, after = time.monotonic() - began, _processor_seconds(service)
    gateway, worker = (1e3 * (end - start) / sent for start, end in zip(before, after, strict=True))
    return Cost(gateway, worker, sent / took)


def table(costs: dict[str, list[Cost]]) -> str:
    """The medians; what is more than by `/v1` is taken within each round."""
    lines = ["| protocol | gateway | worker | more than /v1 | images/s |", "|---" * 5 + "|"]
    for name, own in costs.items():
        more = statistics.median(cost.ms - first.ms for cost, first in zip(own, costs[V1], strict=True))
        gateway, worker, rate = (
            statistics.median(getattr(cost, field) for cost in own)
            for field in ("gateway_ms", "worker_ms", "rate")
        )
        lines.append(f"| {name} | {gateway:.2f} ms | {worker:.2f} ms | {more:+.2f} ms | {rate:.0f} |")
    return "\n".join(lines)


def _tensor(**more: object) -> dict[str, object]:
    return {"name": "image", "datatype": "BYTES", "shape": [1, 1], **more}


def _processor_seconds(service: Service) -> tuple[float, float]:
    """Of gateway and worker."""
    times = [psutil.Process(service.target.pids[name]).cpu_times() for name in ("gateway", "worker")]
    gateway, worker = (found.user + found.system for found in times)
    return gateway, worker


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.protocols", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each protocol in each round")
    parser.add_argument("--at-once", type=int, default=8, help="images under way")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fovea-bench-") as made:
        folder = Path(made)
        (photographs,) = make_sets(["small"], folder, Console())
        artifacts = make_artifacts(options.model, folder / "artifacts", photographs.paths[0].parent)
        contents = photographs.read()
        with Service(artifacts) as service:
            asyncio.run(measure(service, contents, options.seconds, options.rounds, options.at_once))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
