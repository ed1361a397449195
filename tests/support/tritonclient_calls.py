"""Run by the Python of an environment that has tritonclient, which pins an old protobuf: its calls, and what came.

`python tritonclient_calls.py TRANSPORT` reads what to do from standard input and writes what came to standard
output, both JSON. TRANSPORT is `http`, `http.aio`, `grpc` or `grpc.aio`.
"""

import asyncio
import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException


class Client:
    """tritonclient's, whose calls are awaited where they have to be. `described` is its answers as plain JSON."""

    def __init__(self, transport: str, address: str, key: str | None) -> None:
        self.is_grpc = transport.startswith("grpc")
        self.module = importlib.import_module(f"tritonclient.{transport}")
        self._client = self.module.InferenceServerClient(address)
        name = "authorization" if self.is_grpc else "Authorization"
        self._headers = {name: f"Bearer {key}"} if key else None

    async def call(self, name: str, *given: Any, **named: Any) -> Any:
        found = getattr(self._client, name)(*given, headers=self._headers, **named)
        return await found if inspect.isawaitable(found) else found

    async def described(self, name: str, *given: Any) -> Any:
        as_json = {"as_json": True} if self.is_grpc else {}
        return await self.call(name, *given, **as_json)

    async def close(self) -> None:
        closing = self._client.close()
        if inspect.isawaitable(closing):
            await closing

    def tensor(self, values: np.ndarray, datatype: str, **form: bool) -> Any:
        tensor = self.module.InferInput("image", list(values.shape), datatype)
        tensor.set_data_from_numpy(values, **({} if self.is_grpc else form))
        return tensor

    def output(self, name: str, **options: Any) -> Any:
        if self.is_grpc:
            options.pop("binary_data", None)
        return self.module.InferRequestedOutput(name, **options)


async def infer(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """One inference: `images` are files, or `pixels` an array's shape and its value."""
    if "pixels" in job:
        value, shape = job["pixels"]
        tensor = client.tensor(np.full(shape, value, np.uint8), "UINT8", binary_data=job.get("binary", True))
    else:
        files = [Path(path).read_bytes() for path in job["images"]]
        values = np.array(files, dtype=np.object_)
        tensor = client.tensor(values if job.get("flat") else values.reshape(-1, 1), "BYTES")
    outputs = [client.output(name, **options) for name, options in job.get("outputs", {}).items()]
    options = {name: job[name] for name in ("model_version", "request_id", "priority", "timeout") if name in job}
    found = await client.call("infer", job["model"], [tensor], outputs=outputs or None, **options)
    answer = found.get_response()
    described = answer if isinstance(answer, dict) else json.loads(to_json(answer))
    names = [output["name"] for output in described["outputs"]]
    return {
        "model_name": described["model_name"],
        "model_version": described["model_version"],
        "id": described.get("id", ""),
        "outputs": {name: plain(found.as_numpy(name)) for name in names},
    }


def to_json(message: Any) -> str:
    from google.protobuf.json_format import MessageToJson

    return MessageToJson(message, preserving_proto_field_name=True)


def plain(values: np.ndarray) -> Any:
    if values.dtype == np.object_:
        return [[text.decode() for text in row] for row in values]
    return values.tolist()


async def perform(client: Client, job: dict[str, Any]) -> Any:
    try:
        if job["call"] == "infer":
            return await infer(client, job)
        if job["call"].startswith("is_"):
            return await client.call(job["call"], *job.get("given", []))
        return await client.described(job["call"], *job.get("given", []))
    except InferenceServerException as error:
        return {"error": error.message(), "status": error.status()}


async def main() -> None:
    asked = json.load(sys.stdin)
    client = Client(sys.argv[1], asked["address"], asked.get("key"))
    try:
        answers = [await perform(client, job) for job in asked["jobs"]]
    finally:
        await client.close()
    json.dump(answers, sys.stdout)


asyncio.run(main())
