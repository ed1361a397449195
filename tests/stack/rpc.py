"""The Open Inference Protocol by gRPC through the published port."""

from pathlib import Path

import grpc
from digits import MODEL
from log import require
from project import Project

from service.protocol import open_inference_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"


def check_grpc(project: Project, digit: Path) -> None:
    """With a key the digit is named, as it is by HTTP; without one nothing is. Raises StepFailed."""
    key = (project.folder / "secrets/admin_key").read_text().strip()
    with project.client() as client:
        expected = client.classify(digit, model=MODEL, top_k=1).label
    with grpc.insecure_channel(f"127.0.0.1:{project.environment['FOVEA_GRPC_PORT']}") as channel:
        infer = channel.unary_unary(
            INFER,
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        found = infer(_request(digit), metadata=[("authorization", f"Bearer {key}")], timeout=20)
        text = found.raw_output_contents[0][4:].decode()
        require(text.endswith(f":{expected}"), f"by gRPC it is {text}, by HTTP {expected}")
        try:
            infer(_request(digit), timeout=20)
        except grpc.RpcError as error:
            require(error.code() == grpc.StatusCode.UNAUTHENTICATED, f"without a key: {error}")
        else:
            require(False, "gRPC opens without a key")


def _request(digit: Path) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="image",
        datatype="BYTES",
        shape=[1, 1],
        contents=pb.InferTensorContents(bytes_contents=[digit.read_bytes()]),
    )
    output = pb.ModelInferRequest.InferRequestedOutputTensor(name="probabilities")
    output.parameters["classification"].int64_param = 1
    return pb.ModelInferRequest(model_name=MODEL, inputs=[tensor], outputs=[output])
