"""The protocol by gRPC, against the real service; test_tritonclient.py has the clients of others."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.colours import LABELS, SIZE, picture
from support.gateways import Gateways, running_gateways
from support.stack import Stack, free_port, running_stack

from service.protocol import open_inference_pb2 as pb

SERVICE = "inference.GRPCInferenceService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PROTO = Path(__file__).parents[3] / "service/protocol/open_inference.proto"


class Client:
    """Calls by name, over one channel."""

    def __init__(self, address: str, *options: tuple[str, int]) -> None:
        self.channel = grpc.insecure_channel(address, options)

    def call(self, name: str, message: Any = None, **options: Any) -> Any:
        request, answer = getattr(pb, f"{name}Request"), getattr(pb, f"{name}Response")
        method = self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        return method(message or request(), timeout=options.pop("timeout", 20), **options)

    def infer(self, request: pb.ModelInferRequest, **options: Any) -> Any:
        return self.call("ModelInfer", request, **options)

    def refusal(self, name: str, message: Any = None, **options: Any) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(name, message, **options)
        return caught.value


@pytest.fixture(scope="module")
def client(service: Stack) -> Iterator[Client]:
    opened = Client(address_of(service))
    yield opened
    opened.channel.close()


def address_of(stack: Stack) -> str:
    return f"127.0.0.1:{stack.environment['FOVEA_GRPC_PORT']}"


def request(*images: bytes, outputs: tuple[str, ...] = ("probabilities",), **fields: Any) -> pb.ModelInferRequest:
    """Encoded images as typed contents, as KServe's clients send them."""
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="image",
        datatype="BYTES",
        shape=[len(images), 1],
        contents=pb.InferTensorContents(bytes_contents=images),
    )
    wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs]
    return pb.ModelInferRequest(**{"model_name": "colours", "inputs": [tensor], "outputs": wanted, **fields})


def rows(answer: Any, output: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.frombuffer(answer.raw_output_contents[output], "<f4").reshape(answer.outputs[output].shape)


def best(answer: Any) -> list[str]:
    return [LABELS[index] for index in rows(answer).argmax(1)]


def test_images_are_answered_in_their_order(client: Client) -> None:
    answer = client.infer(request(*(picture(colour) for colour in LABELS), id="mine"))
    assert best(answer) == list(LABELS)
    assert (answer.model_name, answer.model_version, answer.id) == ("colours", "1", "mine")
    assert answer.parameters["provider"].string_param == "CPUExecutionProvider"
    assert [(output.name, output.datatype, list(output.shape)) for output in answer.outputs] == [
        ("probabilities", "FP32", [3, 3])
    ]


def test_all_outputs_come_where_none_is_named(client: Client) -> None:
    answer = client.infer(request(picture("red"), outputs=(), model_name="colours@latest"))
    assert [output.name for output in answer.outputs] == ["probabilities", "logits"]
    assert rows(answer, 1)[0] == pytest.approx([6.901961, 1.254902, 1.254902])


@pytest.mark.parametrize("raw", [True, False])
def test_pixels_are_sent_raw_or_as_numbers(client: Client, raw: bool) -> None:
    pixels = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    pixels[..., 2] = 255
    asked = request()
    asked.inputs[0].datatype = "UINT8"
    asked.inputs[0].shape[:] = pixels.shape
    if raw:
        asked.raw_input_contents.append(pixels.tobytes())
    else:
        asked.inputs[0].contents.uint_contents.extend(pixels.ravel().tolist())
    assert best(client.infer(asked)) == ["blue"]


def test_classes_are_asked_for_by_a_parameter(client: Client) -> None:
    asked = request(picture("green"))
    asked.outputs[0].parameters["classification"].int64_param = 1
    answer = client.infer(asked)
    assert answer.raw_output_contents[0][4:] == b"0.992994:1:green"
    asked.outputs[0].parameters["classification"].string_param = "all"
    assert "expected a whole number of classes" in client.refusal("ModelInfer", asked).details()


def test_errors_have_our_words_their_code_and_the_requests_id(client: Client) -> None:
    for asked, status, code, words in (
        (request(b"text"), "INVALID_ARGUMENT", "not_an_image", "expected a JPEG, PNG"),
        (
            request(picture("red"), model_name="nothing"),
            "NOT_FOUND",
            "unknown_model",
            "There is no model 'nothing'.",
        ),
        (request(picture("red")[:60]), "INVALID_ARGUMENT", "image_unreadable", ""),
        (request(), "INVALID_ARGUMENT", "invalid_request", "expected [n] or [n, 1], encoded images"),
        (pb.ModelInferRequest(model_name="colours"), "INVALID_ARGUMENT", "invalid_request", "got 0 tensors"),
        (
            request(picture("red"), raw_input_contents=[b"", b""]),
            "INVALID_ARGUMENT",
            "malformed_body",
            "raw_input_contents has 2 tensors; expected one",
        ),
    ):
        error: Any = client.refusal("ModelInfer", asked, metadata=[("x-request-id", "number-7")])
        trailing = dict(error.trailing_metadata())
        assert (error.code().name, trailing["fovea-code"], trailing["x-request-id"]) == (status, code, "number-7")
        assert words in error.details()


def test_what_is_no_message_is_refused(client: Client) -> None:
    for name in ("ModelInfer", "ServerLive"):
        with pytest.raises(grpc.RpcError) as caught:
            client.channel.unary_unary(f"/{SERVICE}/{name}")(b"\xff\xff\xff", timeout=10)
        error: Any = caught.value
        assert (error.code().name, "cannot be read" in error.details()) == ("INVALID_ARGUMENT", True)
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.stream_unary(f"/{SERVICE}/ModelInfer")(iter([]), timeout=10)
    assert "without a message" in str(caught.value)


parameters = st.dictionaries(
    st.sampled_from(
        ["timeout", "priority", "precision", "binary_data_output", "classification", "binary_data_size"]
    ),
    st.one_of(
        st.builds(pb.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)),
        st.builds(pb.InferParameter, string_param=st.text(max_size=9)),
        st.builds(pb.InferParameter, double_param=st.floats()),
        st.builds(pb.InferParameter, bool_param=st.booleans()),
        st.just(pb.InferParameter()),
    ),
    max_size=3,
)
tensors = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["image", "", "x"]),
    datatype=st.sampled_from(["BYTES", "UINT8", "FP32", ""]),
    shape=st.lists(st.sampled_from([-1, 0, 1, 2, 3, SIZE, 2**62]), max_size=5),
    parameters=parameters,
    contents=st.builds(
        pb.InferTensorContents,
        bytes_contents=st.lists(st.binary(max_size=9), max_size=3),
        uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=3),
    ),
)
outputs = st.builds(
    pb.ModelInferRequest.InferRequestedOutputTensor,
    name=st.sampled_from(["probabilities", "logits", "embedding", ""]),
    parameters=parameters,
)


@given(
    st.builds(
        pb.ModelInferRequest,
        model_name=st.sampled_from(["colours", "colours@latest", "", "a b", "colours:1"]),
        model_version=st.sampled_from(["", "1", "-1", "99999999999", "x"]),
        id=st.text(max_size=300),
        parameters=parameters,
        inputs=st.lists(tensors, max_size=2),
        outputs=st.lists(outputs, max_size=3),
        raw_input_contents=st.lists(st.binary(max_size=20), max_size=2),
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_message_holds_it_is_answered_or_refused_with_a_reason(
    client: Client, asked: pb.ModelInferRequest
) -> None:
    try:
        client.infer(asked)
    except grpc.RpcError as error:
        told: Any = error
        assert told.code().name in {
            "INVALID_ARGUMENT",
            "NOT_FOUND",
            "FAILED_PRECONDITION",
            "DEADLINE_EXCEEDED",
        }, told.details()
        assert told.details()


def test_a_deadline_of_the_clients_or_of_the_request_is_honoured(client: Client) -> None:
    asked = request(picture("red"))
    asked.parameters["timeout"].int64_param = 1
    error: Any = client.refusal("ModelInfer", asked)
    assert (error.code().name, error.details()) == ("DEADLINE_EXCEEDED", "No answer within 1e-06 s.")
    assert client.refusal("ModelInfer", request(picture("red")), timeout=1e-4).code().name == "DEADLINE_EXCEEDED"


def test_a_message_that_is_too_large_is_refused(client: Client, service: Stack) -> None:
    many = Client(address_of(service), ("grpc.max_send_message_length", -1))
    error: Any = many.refusal("ModelInfer", request(b"\0" * (129 * 2**20)))
    assert error.code().name == "RESOURCE_EXHAUSTED"
    assert best(client.infer(request(picture("red")))) == ["red"]
    many.channel.close()


def test_models_and_server_are_described(client: Client) -> None:
    assert client.call("ServerLive").live
    assert client.call("ServerReady").ready
    assert client.call("ServerMetadata").name == "fovea"
    model = client.call("ModelMetadata", pb.ModelMetadataRequest(name="colours", version="1"))
    assert (model.name, list(model.versions), list(model.inputs[0].shape)) == ("colours", ["1"], [-1, 1])
    ready = [client.call("ModelReady", pb.ModelReadyRequest(name=name)).ready for name in ("colours", "nothing")]
    assert ready == [True, False]


def test_health_and_reflection_answer(client: Client) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    assert health.Check(health_pb2.HealthCheckRequest(service=SERVICE)).status == SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    (answer,) = reflection.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10
    )
    assert SERVICE in [found.name for found in answer.list_services_response.service]


def test_calls_are_measured(client: Client, service: Stack) -> None:
    client.infer(request(picture("red")))
    text = httpx.get(f"{service.url}/metrics").text
    labels = f'method="RPC",route="/{SERVICE}/ModelInfer"'
    assert f'fovea_requests_total{{{labels},status="200"}}' in text
    assert f'fovea_requests_total{{{labels},status="404"}}' in text


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateways, Client]]:
    """A gateway that needs keys, without a worker."""
    port = free_port()
    with running_gateways(1, FOVEA_GRPC_PORT=str(port)) as gateways:
        opened = Client(f"127.0.0.1:{port}")
        yield gateways, opened
        opened.channel.close()


def test_a_key_is_asked_for_before_the_message_is_read(public: tuple[Gateways, Client]) -> None:
    _, client = public

    def never() -> Iterator[bytes]:
        time.sleep(10)
        yield b""

    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.stream_unary(f"/{SERVICE}/ModelInfer")(never(), timeout=10)
    error: Any = caught.value
    assert error.code().name == "UNAUTHENTICATED"
    assert time.monotonic() - started < 5


def test_each_kind_of_key_is_let_in_or_refused(public: tuple[Gateways, Client]) -> None:
    gateways, client = public
    assert client.call("ServerLive").live
    assert not client.call("ServerReady").ready
    with_scope = [*gateways.key("classify")[1].items()]
    assert client.call("ServerMetadata", metadata=with_scope).name == "fovea"
    for headers, code in (
        ([], "UNAUTHENTICATED"),
        ([("authorization", "Bearer fov_nobody.nothing")], "UNAUTHENTICATED"),
        ([*gateways.key()[1].items()], "PERMISSION_DENIED"),
    ):
        assert client.refusal("ServerMetadata", metadata=headers).code().name == code
    limited = [*gateways.key("classify", requests_per_second=1)[1].items()]
    codes = [outcome(client, limited) for _ in range(4)]
    assert codes.count("RESOURCE_EXHAUSTED") >= 2


def outcome(client: Client, metadata: list[tuple[str, str]]) -> str:
    try:
        client.call("ServerMetadata", metadata=metadata)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_without_a_worker_it_is_unavailable_and_says_when_to_come_again(public: tuple[Gateways, Client]) -> None:
    gateways, client = public
    health = health_pb2_grpc.HealthStub(client.channel)
    assert health.Check(health_pb2.HealthCheckRequest(service="")).status == NOT_SERVING
    error: Any = client.refusal(
        "ModelInfer",
        request(picture("red"), model_name="nothing"),
        metadata=[*gateways.key("classify")[1].items()],
    )
    assert error.code().name == "NOT_FOUND"


def test_a_gateway_that_ends_answers_what_it_has_and_is_seen_to_end(tmp_path: Path) -> None:
    environment = {"FOVEA_GRPC_PORT": str(free_port()), "FOVEA_DRAIN_S": "1"}
    with running_stack(tmp_path, environment) as stack:
        client = Client(address_of(stack))
        assert best(client.infer(request(picture("red")))) == ["red"]
        # What nobody answers yet.
        stack.processes["inference"].send_signal(signal.SIGSTOP)
        method = client.channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        waiting = method.future(request(picture("green")), timeout=20)
        time.sleep(0.2)
        gateway = stack.processes.pop("gateway")
        gateway.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert not client.call("ServerReady").ready
        stack.processes["inference"].send_signal(signal.SIGCONT)
        assert best(waiting.result()) == ["green"]
        assert gateway.wait(20) == 0
        client.channel.close()


def test_a_port_that_is_taken_is_refused_with_the_setting(service: Stack, tmp_path: Path) -> None:
    environment = {**service.process_environment(), "FOVEA_PORT": "0", "FOVEA_DATA": str(tmp_path)}
    command = [sys.executable, "-m", "service.main"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"FOVEA_GRPC_PORT={service.environment['FOVEA_GRPC_PORT']}: " in done.stderr + done.stdout
    assert "choose another, or 0 for no gRPC" in done.stderr + done.stdout


def test_the_messages_are_those_of_the_proto(tmp_path: Path) -> None:
    """`make proto` writes them."""
    root = PROTO.parents[2]
    outputs = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", *outputs, str(PROTO)]
    subprocess.run(command, check=True, capture_output=True)
    for name in ("open_inference_pb2.py", "open_inference_pb2.pyi"):
        assert (tmp_path / "service/protocol" / name).read_text() == (PROTO.parent / name).read_text()
