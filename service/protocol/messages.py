"""Between the messages of gRPC and what REST has in its JSON, so that both are held to the same."""

from typing import Any

from google.protobuf.message import Message

from service.errors import Problem
from service.intake import Reception, SentImage
from service.protocol import open_inference_pb2 as pb
from service.protocol.body import pixels_of, reader_of
from service.protocol.inference import Inference
from service.protocol.model import Json
from service.protocol.request import InferRequest
from service.protocol.tensors import Elements
from storage.registry import Version


def described(message: pb.ModelInferRequest) -> Json:
    """What REST has in its JSON."""
    return {
        "id": message.id,
        "parameters": _parameters(message.parameters),
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": _parameters(tensor.parameters),
            }
            for tensor in message.inputs
        ],
        "outputs": [
            {"name": output.name, "parameters": _parameters(output.parameters)} for output in message.outputs
        ],
    }


def _parameters(sent: Any) -> Json:
    return {name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in sent.items()}


async def images_of(
    message: pb.ModelInferRequest, asked: InferRequest, version: Version, reception: Reception
) -> list[SentImage]:
    """Raises Problem and BrokerUnavailable."""
    sent = message.inputs[0].contents
    reader = reader_of(asked, version, reception)
    if len(message.raw_input_contents) > 1:
        many = len(message.raw_input_contents)
        raise Problem(400, "malformed_body", f"raw_input_contents has {many} tensors; expected one.")
    if message.raw_input_contents:
        await reader.feed(message.raw_input_contents[0])
    elif isinstance(reader, Elements):
        for element in sent.bytes_contents:
            await reader.add(element)
    else:
        await reader.feed(pixels_of(list(sent.uint_contents)))
    return await reader.finish()


def answer_of(found: Inference) -> Message:
    tensor = pb.ModelInferResponse.InferOutputTensor
    told = {"provider": found.provider, "precision": found.precision}
    return pb.ModelInferResponse(
        model_name=found.version.model,
        model_version=str(found.version.number),
        id=found.id,
        parameters={name: pb.InferParameter(string_param=value) for name, value in told.items()},
        outputs=[
            tensor(name=output.name, datatype=output.datatype, shape=output.shape) for output in found.outputs
        ],
        raw_output_contents=[output.content for output in found.outputs],
    )
