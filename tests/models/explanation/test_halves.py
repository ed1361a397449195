"""Of two known objects side by side, the map of each lies on its half: for the first fifteen networks of the zoo.

A map lies on the half that has more than half of its sum.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.two_objects import pairs, picture, view_of, write_taught

from models.artifact import MODEL
from models.devices import open_session
from models.explanation.head import Floats, Head
from models.explanation.maps import BY_FEATURE_MAP, Map, occluded, occlusion
from models.explanation.method import CAM, OCCLUSION, RECIPRO_CAM
from models.export import to_onnx
from models.preprocess import prepare
from models.spec import FEATURE_MAP, INPUT, LOGITS, Preprocessing
from models.weights.loading import build_with_weights
from models.weights.store import WeightsStore

# As docs/knowing.md has them.
METHODS = {
    "lenet5": RECIPRO_CAM,
    "alexnet_2012": RECIPRO_CAM,
    "alexnet": RECIPRO_CAM,
    "zfnet": RECIPRO_CAM,
    "vgg11": RECIPRO_CAM,
    "vgg11_lrn": RECIPRO_CAM,
    "vgg13": RECIPRO_CAM,
    "vgg16_c": RECIPRO_CAM,
    "vgg16": RECIPRO_CAM,
    "vgg19": RECIPRO_CAM,
    "nin": CAM,
    "maxout": RECIPRO_CAM,
    "googlenet": CAM,
    "inception_v2": CAM,
    "inception_v3": CAM,
}
QUICK = {"lenet5", "nin", "maxout"}
# One of each family; `make test-registry` has all.
SLOW = {"zfnet", "vgg11_lrn", "googlenet", "inception_v2"}
ENOUGH = 0.9
# VGG's convolutions take a minute on two cores that are free, and five on two that are not.
NO_HURRY = pytest.mark.timeout(900)

Pixels = NDArray[np.uint8]


def marked(name: str) -> object:
    if name in QUICK:
        return name
    return pytest.param(name, marks=[pytest.mark.slow if name in SLOW else pytest.mark.registry, NO_HURRY])


@pytest.mark.parametrize("name", [marked(name) for name in METHODS])
def test_the_map_of_a_texture_lies_on_its_half(tmp_path: Path, name: str) -> None:
    outputs = write_taught(name, tmp_path / MODEL)
    head = Head(tmp_path / MODEL, outputs[FEATURE_MAP])
    assert head.is_additive == (METHODS[name] == CAM)
    random = np.random.default_rng(1)
    size = view_of(name).height
    composed = [(picture(left, right, size, random), left, right) for left, right in pairs()]
    assert share_on_their_half(tmp_path / MODEL, head, METHODS[name], composed) >= ENOUGH


@pytest.mark.data
@pytest.mark.parametrize("method", [CAM, RECIPRO_CAM, pytest.param(OCCLUSION, marks=pytest.mark.slow)])
def test_the_map_of_a_photographs_class_lies_on_its_half(tmp_path: Path, test_data: Path, method: str) -> None:
    """Real weights, real photographs: the middle half of each that the network gets right, beside another's."""
    store = WeightsStore(test_data / "weights", offline=True)
    network, loaded = build_with_weights("mobilenet_v1_025", "imagenet", store)
    view = loaded.preprocessing
    outputs = to_onnx(
        network.eval(), tmp_path / MODEL, preprocessing=view, labels=[str(number) for number in range(1000)]
    )
    head = Head(tmp_path / MODEL, outputs[FEATURE_MAP])
    composed = list(side_by_side(tmp_path / MODEL, test_data / "imagenet" / "samples", view))
    assert len(composed) >= 12
    chosen = composed[:12] if method == OCCLUSION else composed
    assert share_on_their_half(tmp_path / MODEL, head, method, chosen, view) >= ENOUGH


def side_by_side(model: Path, samples: Path, view: Preprocessing) -> Iterator[tuple[Pixels, int, int]]:
    """Pictures of two, where the network sees the class of each alone, too, in its half of an empty picture."""
    half = Preprocessing(view.height, view.width // 2, view.height, interpolation=view.interpolation)
    session = open_session(model, device="cpu").session
    known: list[tuple[Pixels, int]] = []
    for path in sorted(samples.iterdir()):
        number, middle = int(path.name[:3]), prepare(path, half)
        whole, alone = prepare(path, view), np.full((view.height, view.width, 3), 127, np.uint8)
        alone[:, view.width // 4 : view.width // 4 + half.width] = middle
        (logits,) = session.run([LOGITS], {INPUT: np.stack([whole, alone])})
        if (logits.argmax(1) == number).all():
            known.append((middle, number))
    for (left, one), (right, other) in zip(known, known[1:] + known[:1], strict=True):
        yield np.concatenate([left, right], axis=1), one, other


def share_on_their_half(
    model: Path,
    head: Head,
    method: str,
    composed: list[tuple[Pixels, int, int]],
    view: Preprocessing | None = None,
) -> float:
    """How many of the maps, two for each picture, lie on the half of their class."""
    session = open_session(model, device="cpu").session

    def logits(images: Pixels) -> Floats:
        parts = [session.run([LOGITS], {INPUT: images[n : n + 8]})[0] for n in range(0, len(images), 8)]
        return np.concatenate(parts)

    def explained(image: Pixels, index: int) -> Map:
        if method == OCCLUSION:
            assert view is not None
            red, green, blue = (round(255 * mean) for mean in view.mean)
            return occlusion(image, logits(image[None])[0], logits(occluded(image, (red, green, blue))), index)
        (feature_map,) = session.run([FEATURE_MAP], {INPUT: image[None]})
        compute: Callable[[Head, Floats, int], Map] = BY_FEATURE_MAP[method]
        return compute(head, feature_map[0], index)

    on_left = [
        (left_share(explained(image, index).values), index == left)
        for image, left, right in composed
        for index in (left, right)
    ]
    return float(np.mean([share > 0.5 if is_left else share < 0.5 for share, is_left in on_left]))


def left_share(values: Floats) -> float:
    """Of the map's sum; the middle column of an odd number belongs to both halves."""
    columns = values.sum(0)
    begins = np.arange(len(columns))
    return float((columns * np.clip(len(columns) / 2 - begins, 0, 1)).sum() / columns.sum())
