"""The protocol by gRPC, in the gateway's event loop: KServe's six calls, health and reflection.

Every call is taken as a stream of one message, so that its key is checked before the message is read. A message is
in memory whole, unlike a body of HTTP.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib.metadata import version as release_of
from typing import Any, NamedTuple
from uuid import uuid4

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from service.auth import require_scope
from service.classification import Caller
from service.errors import Problem, problem_of
from service.middleware import SAFE_ID
from service.parts import Parts
from service.protocol import open_inference_pb2 as pb
from service.protocol import readiness
from service.protocol.inference import contents, infer
from service.protocol.messages import answer_of, described, images_of
from service.protocol.model import EXTENSIONS, metadata, reference_of
from service.protocol.request import infer_request, parsed
from storage.errors import NotFound
from storage.keys import Key
from storage.registry import Version

SERVICE = "inference.GRPCInferenceService"
# As HTTP's health checks they tell whoever asks.
WITHOUT_KEY = frozenset({"ServerLive", "ServerReady"})
HEALTH_S = 1.0
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
MOST_STREAMS = 256  # of one connection
# Clients keep a connection for ever, and would never find a gateway that was added.
CONNECTION_AGE_MS = 300_000
STATUS: dict[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
log = structlog.get_logger()


class Call(NamedTuple):
    """One of the service's calls."""

    answer: Callable[[Any, Caller, Any], Awaitable[Message]]
    request: type[Message]


class RpcServer:
    """Listens on the gateway's gRPC port once it is started. It speaks no TLS: a proxy in front of it does."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        settings = parts.settings
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=settings.max_connections,
            options=[
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", MOST_STREAMS),
                ("grpc.max_connection_age_ms", CONNECTION_AGE_MS),
                # Only where somebody has two gateways overlap; else a port that is taken must be noticed.
                ("grpc.so_reuseport", int(bool(settings.listening))),
            ],
        )
        self._calls = {
            "ServerLive": Call(self._server_live, pb.ServerLiveRequest),
            "ServerReady": Call(self._server_ready, pb.ServerReadyRequest),
            "ServerMetadata": Call(self._server_metadata, pb.ServerMetadataRequest),
            "ModelReady": Call(self._model_ready, pb.ModelReadyRequest),
            "ModelMetadata": Call(self._model_metadata, pb.ModelMetadataRequest),
            "ModelInfer": Call(self._model_infer, pb.ModelInferRequest),
        }
        handlers = {
            name: grpc.stream_unary_rpc_method_handler(
                self._handler(name, call),
                request_deserializer=call.request.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name, call in self._calls.items()
        }
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> None:
        """Raises RuntimeError where the port cannot be had."""
        settings = self._parts.settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        await self._set_health(is_serving=False)
        self._server.add_insecure_port(f"{host}:{settings.grpc_port}")
        await self._server.start()

    async def watch(self) -> None:
        """Tell who asks for health whether images can be classified, until cancelled."""
        while True:
            await self._set_health(is_serving=await readiness.of_server(self._parts))
            await asyncio.sleep(HEALTH_S)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls; those under way have so long to end."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def _set_health(self, *, is_serving: bool) -> None:
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if is_serving else states.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, state)

    def _handler(self, name: str, call: Call) -> Callable[[AsyncIterator[Any], Any], Awaitable[Message]]:
        route = f"/{SERVICE}/{name}"

        async def handle(messages: AsyncIterator[Any], context: Any) -> Message:
            sent = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            sent_id = sent.get("x-request-id", "")
            request_id = sent_id if SAFE_ID.fullmatch(sent_id) else uuid4().hex
            started, status = time.perf_counter(), 499
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                try:
                    key = None if name in WITHOUT_KEY else await self._admitted(sent.get("authorization"))
                    caller = Caller(key, request_id, self._traceparent(sent.get("traceparent", "")))
                    answer = await call.answer(await _only(messages), caller, context)
                    status = 200
                except Exception as error:
                    problem = problem_of(error)
                    status = problem.status
                    self._parts.metrics.failures.labels(problem.code).inc()
                    if status == 500:
                        log.error("request.failed", exc_info=error)
                    await _abort(context, problem, request_id)
                    raise
                finally:
                    seconds = time.perf_counter() - started
                    self._parts.metrics.observe_rpc(route, status, seconds)
                    level = log.debug if status == 200 else log.info
                    level("request", method="RPC", path=route, status=status, ms=round(seconds * 1e3, 1))
            return answer

        return handle

    async def _admitted(self, authorization: str | None) -> Key | None:
        """Whose call it is. Raises Problem."""
        key = await self._parts.auth.authenticate(authorization)
        if key is not None:
            await self._parts.limiter.admit(key)
            require_scope(key, "classify")
        return key

    def _traceparent(self, sent: str) -> str | None:
        return sent if self._parts.tracer and TRACEPARENT.fullmatch(sent) else None

    async def _server_live(self, _message: Any, _caller: Caller, _context: Any) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, _message: Any, _caller: Caller, _context: Any) -> Message:
        return pb.ServerReadyResponse(ready=await readiness.of_server(self._parts))

    async def _server_metadata(self, _message: Any, _caller: Caller, _context: Any) -> Message:
        return pb.ServerMetadataResponse(name="fovea", version=release_of("fovea"), extensions=EXTENSIONS)

    async def _model_ready(self, message: pb.ModelReadyRequest, _caller: Caller, _context: Any) -> Message:
        """A model that is not there is not ready; who waits for it to come asks again."""
        with suppress(NotFound):
            await self._version(message.name, message.version)
            return pb.ModelReadyResponse(ready=readiness.of_workers(self._parts))
        return pb.ModelReadyResponse(ready=False)

    async def _model_metadata(self, message: pb.ModelMetadataRequest, _caller: Caller, _context: Any) -> Message:
        version = await self._version(message.name, message.version)
        numbers = await asyncio.to_thread(self._parts.registry.numbers, version.model)
        told = metadata(message.name, version, numbers)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            **told | {side: [tensor(**described) for described in told[side]] for side in ("inputs", "outputs")}
        )

    async def _model_infer(self, message: pb.ModelInferRequest, caller: Caller, context: Any) -> Message:
        parts = self._parts
        version = await self._version(message.model_name, message.model_version)
        asked = infer_request(parsed(described(message)), version, parts.settings.max_images)
        async with parts.intake.reception(caller.key) as reception:
            images = await images_of(message, asked, version, reception)
            found = await infer(parts, caller, version, asked, contents(images), context.time_remaining())
            reception.answered(images)
        return answer_of(found)

    async def _version(self, name: str, number: str) -> Version:
        return await self._parts.versions.resolve(reference_of(name, number))


async def _only(messages: AsyncIterator[Any]) -> Any:
    """The one message of a call. Raises Problem 400 where what came is none."""
    try:
        async for message in messages:
            return message
    except DecodeError as error:
        raise Problem(400, "malformed_body", f"The message cannot be read: {error}.") from error
    raise Problem(400, "malformed_body", "The call came without a message; expected one.")


async def _abort(context: Any, problem: Problem, request_id: str) -> None:
    """Ends the call with the problem; its code and the request's id are in the trailing metadata."""
    trailing = [("fovea-code", problem.code), ("x-request-id", request_id)]
    if "Retry-After" in problem.headers:
        trailing.append(("retry-after", problem.headers["Retry-After"]))
    await context.abort(STATUS.get(problem.status, grpc.StatusCode.INTERNAL), problem.detail, tuple(trailing))
