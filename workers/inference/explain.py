"""Why a class: maps of the images of a batch, computed through the engine's own queue of parts."""

import base64
import binascii
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.artifact import FLOAT32, MODEL, verify
from models.errors import ExplanationUnavailable, ImageError
from models.explanation.head import Head
from models.explanation.maps import BY_FEATURE_MAP, Map, Pixels, occluded, occlusion, strongest_part
from models.explanation.method import CAM, OCCLUSION, RECIPRO_CAM, chosen
from models.explanation.overlay import canvas_of, overlay
from models.preprocess import region_of, upright_size
from models.spec import FEATURE_MAP, LOGITS, PROBABILITIES, Preprocessing
from workers.contract.messages import ClassScore, Explain, Explanation, ImageOutcome
from workers.inference.answers import Asked
from workers.inference.engine import BatchResult, DeadlinePassed, Engine, failure
from workers.inference.loaded import LoadedModel

# Digits of a map's values behind the point: more than a colour tells.
DIGITS = 4
NO_MAP = "the graph of this version gives no feature map"
NOT_ADDITIVE = "its classes are not the mean of what the last layer says of each place"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Explained:
    """What is explained of which version, and how: `asked` of a batch, in `precision`, by `method`."""

    artifact: str
    precision: str
    asked: Explain
    method: str
    preprocessing: Preprocessing
    labels: Sequence[str]
    head: Head | None
    deadline: float | None


def explain(
    engine: Engine,
    artifact: str,
    images: Sequence[bytes],
    why: Explain,
    *,
    precision: str = "",
    deadline: float | None = None,
    suspects: Collection[int] = (),
) -> BatchResult:
    """As `Engine.classify`, and each outcome with its explanation; raises what that raises.

    A version that cannot be explained by the method that was asked for is an error of each image.
    """
    precision = precision or FLOAT32
    with engine.models.hold(artifact, precision) as held:
        predictor = held.predictor
        try:
            method, head = _method(engine, held, why.method)
        except ExplanationUnavailable as error:
            unavailable = ImageOutcome(error="explanation_unavailable", detail=str(error))
            return BatchResult([unavailable] * len(images), predictor.provider, predictor.precision, [])
        outputs = (LOGITS, PROBABILITIES, *((FEATURE_MAP,) if head else ()))
        result = engine.classify(
            artifact,
            images,
            Asked(1, outputs, is_traffic=False),
            precision=precision,
            deadline=deadline,
            suspects=suspects,
        )
        work = Explained(
            artifact, precision, why, method, predictor.preprocessing, predictor.labels, head, deadline
        )
        for place, outcome in enumerate(result.outcomes):
            if deadline is not None and time.time() > deadline:
                raise DeadlinePassed
            if outcome.error is None:
                result.outcomes[place] = _explained(engine, work, images[place], outcome, place in suspects)
        return result


def _method(engine: Engine, held: LoadedModel, asked: str) -> tuple[str, Head | None]:
    """How to explain, and the head where it is needed for that. Raises ExplanationUnavailable."""
    if asked == OCCLUSION:
        return asked, None
    try:
        head = _head_of(engine, held)
    except ExplanationUnavailable as error:
        return chosen(asked, [OCCLUSION], str(error)), None
    available = [CAM, RECIPRO_CAM, OCCLUSION] if head.is_additive else [RECIPRO_CAM, OCCLUSION]
    return chosen(asked, available, NOT_ADDITIVE), head


def _head_of(engine: Engine, held: LoadedModel) -> Head:
    """Cut out of the float32 graph when it is first needed, whatever precision the map is computed in."""
    if held.head:
        return held.head
    predictor = held.predictor
    sizes = predictor.manifest.outputs.get(FEATURE_MAP)
    if sizes is None or FEATURE_MAP not in predictor.outputs:
        raise ExplanationUnavailable(NO_MAP)
    if predictor.precision != FLOAT32:
        verify(predictor.folder, [MODEL])
    head = engine.on_a_core(lambda: Head(predictor.folder / MODEL, sizes))
    engine.models.add_head(held, head)
    return head


def _explained(
    engine: Engine, work: Explained, image: bytes, outcome: ImageOutcome, suspected: bool
) -> ImageOutcome:
    outputs = {name: _floats(values) for name, values in (outcome.outputs or {}).items()}
    index = outcome.classes[0].index if work.asked.index is None else work.asked.index
    score = ClassScore(index, work.labels[index], float(outputs[PROBABILITIES][index]))
    try:
        if work.head is None:
            found = _occlusion(engine, work, image, outputs[LOGITS], index, suspected)
        else:
            feature_map = outputs[FEATURE_MAP].reshape(work.head.sizes)
            head, compute = work.head, BY_FEATURE_MAP[work.method]
            found = engine.on_a_core(lambda: compute(head, feature_map, index))
        width, height = size = upright_size(image, max_pixels=engine.max_pixels)
        region = region_of(size, work.preprocessing)
        box = _box(found.values, region)
        drawn = None
        if work.asked.overlay:
            picture = engine.decode(image, canvas_of(size), apart=suspected)
            png = engine.on_a_core(lambda: overlay(picture, size, found.values, region, box))
            drawn = base64.b64encode(png).decode()
    except (ImageError, MemoryError) as error:
        return failure(error)
    rows = tuple(tuple(round(value, DIGITS) for value in row) for row in found.values.tolist())
    explanation = Explanation(
        score,
        work.method,
        rows,
        found.low,
        found.high,
        found.unit,
        width,
        height,
        _rounded(region),
        _rounded(box),
        drawn,
    )
    return replace(outcome, outputs=None, explanation=explanation)


def _occlusion(engine: Engine, work: Explained, image: bytes, whole: Floats, index: int, suspected: bool) -> Map:
    """By at most 64 further passes, which go through the engine as images that are prepared already."""
    pixels: Pixels = engine.decode(image, work.preprocessing, apart=suspected)
    grey = tuple(round(255 * mean) for mean in work.preprocessing.mean)
    hidden = occluded(pixels, (grey[0], grey[1], grey[2]))
    result = engine.classify(
        work.artifact,
        [each.tobytes() for each in hidden],
        Asked(1, (LOGITS,), is_traffic=False),
        precision=work.precision,
        prepared=True,
        deadline=work.deadline,
    )
    logits = np.stack([_floats((outcome.outputs or {})[LOGITS]) for outcome in result.outcomes])
    return occlusion(pixels, whole, logits, index)


def _box(values: Floats, region: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    rows, columns = values.shape
    left, top, right, bottom = strongest_part(values)
    across, down = (region[2] - region[0]) / columns, (region[3] - region[1]) / rows
    return (
        region[0] + left * across,
        region[1] + top * down,
        region[0] + right * across,
        region[1] + bottom * down,
    )


def _rounded(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(side, 1) for side in box)
    return left, top, right, bottom


def _floats(values: str) -> Floats:
    return np.frombuffer(binascii.a2b_base64(values), "<f4")
