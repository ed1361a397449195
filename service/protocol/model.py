"""A model as the protocol describes it: its tensors, its configuration, its versions."""

from collections.abc import Iterable, Sequence
from typing import Any

from models.spec import EMBEDDING, INPUT, LOGITS, PROBABILITIES
from service.protocol.statistics import VersionStatistics
from storage.reference import Reference
from storage.registry import Version

BYTES, UINT8, FP32 = "BYTES", "UINT8", "FP32"
PLATFORM = "onnxruntime_onnx"
EXTENSIONS = (
    "classification",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "model_configuration",
    "model_repository",
)
Json = dict[str, Any]


def reference_of(model: str, version: str | None) -> str:
    """The model reference that a path or a message names by a model, which may be a reference, and a version.

    Raises InvalidReference.
    """
    if not version:
        return model
    reference = f"{model}:{version}"
    Reference.parse(reference)
    return reference


def pixels_shape(version: Version) -> list[int]:
    """Of one prepared image."""
    preprocessing = version.manifest["preprocessing"]
    return [preprocessing["height"], preprocessing["width"], 3]


def outputs_of(version: Version) -> dict[str, list[int]]:
    """The outputs that clients can ask for, each with its shape for one image."""
    classes = [len(version.labels)]
    embedding = (version.manifest.get("outputs") or {}).get(EMBEDDING)
    return {PROBABILITIES: classes, LOGITS: classes, **({EMBEDDING: embedding} if embedding else {})}


def metadata(name: str, version: Version, numbers: Sequence[int]) -> Json:
    """`name` is the one that the client used; `numbers` are all versions of the model, oldest first."""
    return {
        "name": name,
        "versions": [str(number) for number in numbers],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": BYTES, "shape": [-1, 1]}],
        "outputs": [
            {"name": output, "datatype": FP32, "shape": [-1, *shape]}
            for output, shape in outputs_of(version).items()
        ],
    }


def config(name: str, version: Version, max_images: int) -> Json:
    """As Triton's clients read it; `parameters` say how pixels that are sent as such are prepared."""
    preprocessing = version.manifest["preprocessing"]
    told = {
        "alternative_input": f"{INPUT}: {UINT8} {[-1, *pixels_shape(version)]}",
        **{key: preprocessing[key] for key in ("height", "width", "resize", "fit", "interpolation")},
    }
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [version.number]}},
        "max_batch_size": max_images,
        "input": [{"name": INPUT, "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [
            {"name": output, "data_type": "TYPE_FP32", "dims": shape}
            for output, shape in outputs_of(version).items()
        ],
        "parameters": {key: {"string_value": str(value)} for key, value in told.items()},
    }


def statistics(name: str, version: int, found: VersionStatistics) -> Json:
    return {"name": name, "version": str(version), **found.to_dict()}


def index(versions: Iterable[tuple[str, int]]) -> list[Json]:
    """All are ready: a worker loads one when it is asked for."""
    return [{"name": model, "version": str(number), "state": "READY", "reason": ""} for model, number in versions]
