"""What a model file cannot be served without and need not hold: labels and preprocessing. Knows no onnx, no torch.

They are what the user says beside the file, else what the file's own metadata has.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from models.errors import InvalidPreprocessing, UploadFactsMissing
from models.spec import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from models.uploaded.view import PreprocessingFields
from models.validation import invalid_fields, shortened
from models.weights.labels import imagenet_labels
from system.hidden import hidden_character

IMAGENET = "imagenet"
MOST_CLASSES = 100_000
LONGEST_LABEL = 200
SHOWN = 5
EXAMPLE = '{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}'


@dataclass(frozen=True)
class Said:
    """What the user says of the file, all of it optional.

    `labels` and `preprocessing` are those, or `imagenet`; a preprocessing may leave out any field. `output` names
    the graph's output that classifies and `values` says what it gives, `logits` or `probabilities`.
    """

    labels: Sequence[str] | str | None = None
    preprocessing: Mapping[str, Any] | str | None = None
    output: str | None = None
    values: str | None = None


@dataclass(frozen=True)
class FromMetadata:
    """What an ONNX file's metadata has, as Fovea writes it; None for what is not there or not understood."""

    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    temperature: float = 1.0


@dataclass(frozen=True)
class InputSize:
    """What the file says of its pictures; None where it takes any. `normalises`: it takes 8-bit pixels."""

    height: int | None = None
    width: int | None = None
    normalises: bool = False
    # Where neither the user nor the file says anything, as an architecture has it.
    default: Preprocessing | None = field(default=None)


def read_metadata(properties: Mapping[str, str]) -> FromMetadata:
    """Raises UploadFactsMissing for a preprocessing that is written there and describes none."""
    labels = _json(properties.get("labels"))
    found = _json(properties.get("preprocessing"))
    temperature = _json(properties.get("temperature"))
    view = None
    if isinstance(found, dict):
        fields = {name: value for name, value in found.items() if name in PreprocessingFields.model_fields}
        try:
            read = PreprocessingFields.model_validate(fields)
            view = Preprocessing(**read.model_dump(exclude_none=True))
        except ValidationError as exc:
            raise UploadFactsMissing(
                f"preprocessing: the file's metadata: {invalid_fields(exc.errors())}"
            ) from exc
        except InvalidPreprocessing as exc:
            raise UploadFactsMissing(f"preprocessing: the file's metadata: {exc}") from exc
    if not isinstance(temperature, int | float) or isinstance(temperature, bool) or not 1e-3 < temperature < 1e3:
        temperature = 1.0
    texts = labels if isinstance(labels, list) and all(isinstance(label, str) for label in labels) else None
    return FromMetadata(tuple(texts) if texts else None, view, float(temperature))


def labels_of(said: Said, known: FromMetadata, classes: int, what: str) -> tuple[tuple[str, ...], str]:
    """A label for each class and who says so, `given`, `metadata` or `imagenet`. Raises UploadFactsMissing."""
    if said.labels == IMAGENET:
        labels, source = imagenet_labels(), IMAGENET
    elif said.labels is not None:
        labels, source = tuple(said.labels), "given"
    elif known.labels is not None:
        labels, source = known.labels, "metadata"
    else:
        hint = ', or "labels": "imagenet" if they are ImageNet\'s' if classes == len(imagenet_labels()) else ""
        raise UploadFactsMissing(
            f"labels: {what} tells {classes} classes apart and holds no names for them; give a list of "
            f"{classes} names in the order of its outputs{hint}"
        )
    if len(labels) != classes:
        raise UploadFactsMissing(
            f"labels: got {len(labels)} ({_some(labels)}), but {what} tells {classes} classes apart; expected a "
            "name for each, in the order of its outputs"
        )
    check_labels(labels, may_repeat=source != "given")
    return labels, source


def check_labels(labels: Sequence[str], *, may_repeat: bool = False) -> None:
    """Raises UploadFactsMissing for a label that nobody could read, and for one that two classes share.

    torchvision's list for ImageNet has two such pairs, and is taken as it is.
    """
    if not 2 <= len(labels) <= MOST_CLASSES:
        raise UploadFactsMissing(f"labels: got {len(labels)}; expected 2 to {MOST_CLASSES:,}")
    for number, label in enumerate(labels, start=1):
        fault = None
        if not label.strip():
            fault = "is empty"
        elif len(label) > LONGEST_LABEL:
            fault = f"has {len(label)} characters, of at most {LONGEST_LABEL}"
        elif hidden := hidden_character(label):
            fault = f"holds a character that is not seen, {hidden}"
        if fault:
            raise UploadFactsMissing(
                f"labels: number {number}, {shortened(label)!a}, {fault}; expected a name that can be read"
            )
    if may_repeat or tuple(labels) == imagenet_labels():
        return
    seen: set[str] = set()
    repeated = list(dict.fromkeys(label for label in labels if label in seen or seen.add(label)))  # type: ignore[func-returns-value]
    if repeated:
        raise UploadFactsMissing(
            f"labels: {len(repeated)} of them stand for more than one class ({_some(repeated)}); expected a name "
            "of "
            "its own for each, such as 'crane (bird)' and 'crane (machine)'"
        )


def preprocessing_of(said: Said, known: FromMetadata, size: InputSize) -> tuple[Preprocessing, str]:
    """How pictures are prepared, and who says so: `given`, `metadata` or `architecture`.

    Of what the user gives, a field that is left out is the file's where its graph fixes it, else that of the
    metadata, else the usual. Raises UploadFactsMissing.
    """
    base = known.preprocessing or size.default
    if said.preprocessing is None:
        if base is None:
            takes = "mean and std" if not size.normalises else "{}, or resize, fit and interpolation"
            raise UploadFactsMissing(
                f"preprocessing: the file does not say how pictures are prepared for it; give {takes}, for "
                "instance "
                f'{"{}" if size.normalises else EXAMPLE}, or "imagenet" for torchvision\'s usual way'
            )
        view, source = base, "metadata" if known.preprocessing else "architecture"
    else:
        given = {} if said.preprocessing == IMAGENET else dict(_as_mapping(said.preprocessing))
        view, source = _completed(given, base, size, usual=said.preprocessing == IMAGENET), "given"
    for name, fixed in (("height", size.height), ("width", size.width)):
        if fixed is not None and getattr(view, name) != fixed:
            raise UploadFactsMissing(
                f"preprocessing.{name}: got {getattr(view, name)}, but the file takes {fixed}; leave it out, or "
                "export the network for another size"
            )
    return view, source


def _completed(
    given: Mapping[str, Any], base: Preprocessing | None, size: InputSize, *, usual: bool
) -> Preprocessing:
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if size.normalises and ("mean" in values or "std" in values):
        raise UploadFactsMissing(
            "preprocessing.mean: the file takes 8-bit pixels, so it normalises them itself; leave mean and std out"
        )
    for name, fixed in (("height", size.height), ("width", size.width)):
        known = fixed if fixed is not None else base and getattr(base, name)
        if name not in values and known is None:
            raise UploadFactsMissing(
                f"preprocessing.{name}: the file takes pictures of any size; give the {name} in pixels to serve "
                "it at"
            )
        values.setdefault(name, known)
    if base is not None:
        for name in ("fit", "interpolation", "mean", "std"):
            values.setdefault(name, getattr(base, name))
        if (base.height, base.width) == (values["height"], values["width"]):
            values.setdefault("resize", base.resize)
    largest = max(values["height"], values["width"])
    # The share of 224 in 256. What small pictures show would be cut into.
    values.setdefault("resize", largest if largest < 64 else round(largest * 8 / 7))
    if size.normalises and base is None:
        # What the formula makes of a pixel is that pixel.
        values |= {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
    elif usual:
        values |= {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    for name in ("mean", "std"):
        if name not in values:
            raise UploadFactsMissing(
                f"preprocessing.{name}: the file takes floats, and only who trained it knows which; give the "
                f"{name} "
                "of red, green and blue of pixels from 0 to 1, as torchvision does; for pixels from 0 to 255 mean "
                "[0, 0, 0] and std [0.00392157, 0.00392157, 0.00392157]"
            )
    try:
        return Preprocessing.from_dict(values)
    except InvalidPreprocessing as exc:
        raise UploadFactsMissing(f"preprocessing: {exc}") from exc


def _as_mapping(value: Mapping[str, Any] | str) -> Mapping[str, Any]:
    if isinstance(value, str):
        raise UploadFactsMissing(f'preprocessing: got {shortened(value)!r}; expected an object, or "imagenet"')
    return value


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _some(labels: Sequence[str]) -> str:
    return ", ".join(ascii(shortened(label)) for label in labels[:SHOWN]) + (
        ", ..." if len(labels) > SHOWN else ""
    )
