"""An inference request of the protocol without its images: which tensor is sent, and which are wanted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError

from models.artifact import PrecisionChoice
from models.spec import INPUT, LOGITS, PROBABILITIES
from models.validation import invalid_fields, shortened
from service.checks import wrong_field
from service.classification import asked_precision
from service.errors import Problem, invalid_request
from service.lane import NO_PRIORITY
from service.protocol.model import BYTES, UINT8, outputs_of, pixels_shape
from storage.registry import Version

MOST_CLASSES = 1000
LONGEST_ID = 255
# Of parts of Triton that Fovea has not. To ignore one would answer something else than was asked for.
UNSUPPORTED = ("sequence_id", "sequence_start", "sequence_end", "shared_memory_region")

Parameters = dict[str, Any]


class InputTensor(BaseModel):
    name: str
    datatype: str = Field(description="`BYTES`, encoded images; or `UINT8`, prepared pixels.")
    shape: list[int]
    parameters: Parameters = Field({}, description="`binary_data_size` where the tensor follows the JSON.")
    data: Any = Field(None, description="Images as base64, or pixels; flat or nested.")


class OutputRequest(BaseModel):
    name: str
    parameters: Parameters = Field(
        {}, description="`binary_data`; `classification`: how many classes as `value:index:label`."
    )


class InferBody(BaseModel):
    id: str = Field("", max_length=LONGEST_ID, description="Returned with the answer.")
    parameters: Parameters = Field(
        {}, description="`timeout` in microseconds, `priority` from 1, `binary_data_output`, `precision`."
    )
    inputs: list[InputTensor]
    outputs: list[OutputRequest] | None = Field(
        None, description="Those that are wanted; all where there are none."
    )


@dataclass(frozen=True)
class WantedOutput:
    """`classes` says how many are wanted by name instead of the tensor, 0 being none of them."""

    name: str
    classes: int = 0
    binary: bool = False


@dataclass(frozen=True)
class InferRequest:
    """What was asked of a version, which has been found to be possible.

    `images` come as one tensor, which holds files, or pixels where it is `prepared`; `flat` without its second
    dimension. Of `binary_bytes` where it follows the JSON. An empty `precision` is the worker's choice.
    """

    id: str
    images: int
    prepared: bool
    binary_bytes: int | None
    outputs: tuple[WantedOutput, ...]
    precision: str
    priority: int
    timeout_s: float | None

    @property
    def tensors(self) -> tuple[str, ...]:
        """What the worker is to send of the network beside the classes."""
        return tuple(wanted.name for wanted in self.outputs if not wanted.classes or wanted.name != PROBABILITIES)

    @property
    def top_k(self) -> int:
        return max((wanted.classes for wanted in self.outputs), default=0) or 1


def parsed(document: Any) -> InferBody:
    """Raises Problem 422 that names the fields which are wrong."""
    try:
        return InferBody.model_validate(document)
    except ValidationError as error:
        faults = invalid_fields(error.errors(include_url=False), InferBody, "body")
        raise invalid_request(faults) from error


def infer_request(body: InferBody, version: Version, max_images: int) -> InferRequest:
    """Raises Problem: 413 for too many images, 409 for a precision that there is not, 422 for all else."""
    if len(body.inputs) != 1:
        raise wrong_field("inputs", f"got {len(body.inputs)} tensors, expected one, {INPUT!r}")
    tensor, parameters = body.inputs[0], body.parameters
    _refuse_unsupported("parameters", parameters)
    _refuse_unsupported("inputs.0.parameters", tensor.parameters)
    if tensor.name != INPUT:
        raise wrong_field("inputs.0.name", f"got {shortened(tensor.name)!r}, expected {INPUT!r}")
    images = _images(tensor, version)
    if images > max_images:
        detail = (
            f"The tensor holds {images} images; at most {max_images} are taken at once. Send several requests."
        )
        raise Problem(413, "too_many_images", detail)
    precision = _text(parameters, "precision", get_args(PrecisionChoice)) or "auto"
    timeout_us = _whole(parameters, "timeout", "parameters", "microseconds")
    return InferRequest(
        id=body.id,
        images=images,
        prepared=tensor.datatype == UINT8,
        binary_bytes=_whole(tensor.parameters, "binary_data_size", "inputs.0.parameters", "bytes"),
        outputs=_outputs(body.outputs, version, _truth(parameters, "binary_data_output", "parameters")),
        precision=asked_precision(version, precision),
        priority=_whole(parameters, "priority", "parameters", "") or NO_PRIORITY,
        timeout_s=timeout_us / 1e6 if timeout_us else None,
    )


def _images(tensor: InputTensor, version: Version) -> int:
    """How many the tensor's shape says that there are."""
    shape = tensor.shape
    if tensor.datatype == BYTES:
        fits = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        expected = "[n] or [n, 1], encoded images"
    elif tensor.datatype == UINT8:
        pixels = pixels_shape(version)
        fits = len(shape) == 4 and shape[1:] == pixels
        expected = f"[n, {', '.join(map(str, pixels))}], prepared pixels"
    else:
        got = shortened(tensor.datatype)
        expected = f"{BYTES} (encoded images) or {UINT8} (prepared pixels)"
        raise wrong_field("inputs.0.datatype", f"got {got!r}, expected {expected}")
    if not fits or shape[0] < 1:
        raise wrong_field("inputs.0.shape", f"got {shortened(str(shape))}, expected {expected}, n from 1")
    return shape[0]


def _outputs(
    asked: Sequence[OutputRequest] | None, version: Version, binary: bool | None
) -> tuple[WantedOutput, ...]:
    known = outputs_of(version)
    if not asked:
        return tuple(WantedOutput(name, binary=bool(binary)) for name in known)
    wanted: dict[str, WantedOutput] = {}
    for number, output in enumerate(asked):
        where = f"outputs.{number}"
        if output.name not in known:
            expected = ", ".join(known)
            raise wrong_field(f"{where}.name", f"got {shortened(output.name)!r}; this version gives {expected}")
        if output.name in wanted:
            raise wrong_field(f"{where}.name", f"{output.name!r} is asked for twice")
        _refuse_unsupported(f"{where}.parameters", output.parameters)
        classes = _whole(output.parameters, "classification", f"{where}.parameters", "classes") or 0
        if classes and output.name not in (PROBABILITIES, LOGITS):
            raise wrong_field(f"{where}.parameters.classification", f"{output.name!r} has no classes")
        own = _truth(output.parameters, "binary_data", f"{where}.parameters")
        wanted[output.name] = WantedOutput(
            output.name, min(classes, MOST_CLASSES, len(version.labels)), bool(binary if own is None else own)
        )
    return tuple(wanted.values())


def _refuse_unsupported(where: str, parameters: Parameters) -> None:
    for name in UNSUPPORTED:
        if parameters.get(name):
            raise wrong_field(f"{where}.{name}", "sequences and shared memory are not supported; leave it out")


def _whole(parameters: Parameters, name: str, where: str, unit: str) -> int | None:
    value = parameters.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63):
        return value
    of_unit = f" of {unit}" if unit else ""
    raise wrong_field(f"{where}.{name}", f"got {shortened(repr(value))}, expected a whole number{of_unit}")


def _truth(parameters: Parameters, name: str, where: str) -> bool | None:
    value = parameters.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise wrong_field(f"{where}.{name}", f"got {shortened(repr(value))}, expected true or false")


def _text(parameters: Parameters, name: str, known: Sequence[str]) -> str | None:
    value = parameters.get(name)
    if value is None or value in known:
        return value
    raise wrong_field(f"parameters.{name}", f"got {shortened(repr(value))}, expected one of {', '.join(known)}")
