"""Maps of where a class was seen, on heads and pictures whose answer is known."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.quadrants import CELLS, make_quadrants

from models.artifact import MODEL
from models.explanation.head import Floats, Head
from models.explanation.maps import Map, class_activation_map, occluded, occlusion, recipro_cam, strongest_part
from models.explanation.overlay import canvas_of, overlay

HERE = (1, 2)


@pytest.fixture
def feature_map() -> Floats:
    """Red everywhere but in one place, which is green."""
    found = np.zeros((3, CELLS, CELLS), np.float32)
    found[0] = 1
    found[:, *HERE] = (0, 1, 0)
    return found


@pytest.mark.parametrize(
    ("pooled", "compute"), [(True, class_activation_map), (True, recipro_cam), (False, recipro_cam)]
)
def test_a_map_is_highest_where_the_class_is(
    tmp_path: Path, pooled: bool, compute: Callable[..., Map], feature_map: Floats
) -> None:
    make_quadrants(tmp_path, pooled=pooled)
    head = Head(tmp_path / MODEL, [3, CELLS, CELLS])
    assert head.is_additive == pooled
    found = compute(head, feature_map, 1)
    assert np.unravel_index(found.values.argmax(), found.values.shape) == HERE
    assert (found.values.min(), found.values.max()) == (0, 1)
    assert found.low < found.high


def test_a_map_without_any_difference_is_zero(tmp_path: Path) -> None:
    make_quadrants(tmp_path)
    head = Head(tmp_path / MODEL, [3, CELLS, CELLS])
    found = class_activation_map(head, np.ones(head.sizes, np.float32), 0)
    assert not found.values.any()
    assert found.low == found.high


def test_occlusion_hides_every_place_once_and_is_highest_where_hiding_costs_most() -> None:
    image = np.full((40, 24, 3), 10, np.uint8)
    image[0:10, 12:] = 200
    hidden = occluded(image, (99, 98, 97))
    assert hidden.shape == (64, 40, 24, 3)
    is_hidden = (hidden == (99, 98, 97)).all(-1)
    assert is_hidden.any(0).all(), "a part is never hidden"
    assert is_hidden.sum((1, 2)).max() == 10 * 6, "a patch is a quarter of each side"
    brightness = np.array([[each[0:10, 12:].mean(), 0] for each in hidden], np.float32) / 20
    found = occlusion(image, np.array([10, 0], np.float32), brightness, 0)
    assert np.unravel_index(found.values.argmax(), (8, 8))[0] < 2
    assert strongest_part(found.values)[0] >= 3


def test_the_smallest_images_are_hidden_pixel_by_pixel() -> None:
    assert occluded(np.zeros((3, 2, 3), np.uint8), (1, 1, 1)).shape == (6, 3, 2, 3)


def test_the_strongest_part_is_what_hangs_together_with_the_maximum() -> None:
    values = np.array([[0.9, 0, 0, 0], [0, 0, 1, 0.6], [0, 0, 0.5, 0.4]], np.float32)
    assert strongest_part(values) == (2, 1, 4, 3)


def test_the_drawing_is_dark_where_the_network_did_not_look() -> None:
    picture = np.full((300, 600, 3), 200, np.uint8)
    values = np.array([[0, 1], [0, 0]], np.float32)
    png = overlay(picture, (1200, 600), values, (300, 0, 900, 600), (600, 0, 900, 300))
    drawn = np.asarray(Image.open(io.BytesIO(png)))
    assert drawn.shape == (300, 600, 3)
    assert (drawn[:, :140] == 70).all()
    assert (drawn[:, 460:] == 70).all()
    red, _, blue = drawn[20, 440].astype(int)
    assert red > blue + 20, "the maximum is of a warm colour"
    red, _, blue = drawn[280, 160].astype(int)
    assert abs(red - blue) < 10, "the minimum is the picture itself, in grey"


@pytest.mark.parametrize(
    ("size", "canvas"),
    [((4000, 3000), (1024, 768)), ((28, 28), (256, 256)), ((500, 1), (500, 1)), ((1, 9000), (1, 1024))],
)
def test_a_drawing_is_large_enough_to_see_and_bounded(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    view = canvas_of(size)
    assert (view.width, view.height) == canvas
