"""The patches that are found are those that hand-made filters were made for, cut out to the pixel."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.filters.deep_layers import choose_layers
from models.filters.excitation import Excitation, excitation_graph, excite
from models.filters.patches import cut_out, most_excited, patches_picture
from models.filters.window import Box
from models.spec import Preprocessing
from models.tracing import trace

SIZE = 48
VIEW = Preprocessing(height=SIZE, width=SIZE, resize=SIZE)
RED = (255, 0, 0)
SQUARE = 4


class RedSquares(nn.Module):
    """A filter that fires most on a red square of four pixels on black, seen again by all deeper layers.

    The first convolution is padded by one and steps by two; then a pool, padded and stepping too, and a deeper
    convolution that passes on the pool's middle value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.Conv2d(3, 2, SQUARE, stride=2, padding=1)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.deeper = nn.Conv2d(2, 2, 3, padding=1)
        with torch.no_grad():
            for layer in (self.edges, self.deeper):
                layer.weight.zero_()
                assert layer.bias is not None
                layer.bias.zero_()
            self.edges.weight[0, 0], self.edges.weight[0, 1:] = 1, -1
            self.edges.weight[1, 2], self.edges.weight[1, :2] = 1, -1
            self.deeper.weight[0, 0, 1, 1] = self.deeper.weight[1, 1, 1, 1] = 1

    def forward(self, image: Tensor) -> Tensor:
        edges = torch.relu(self.edges(image.permute(0, 3, 1, 2).contiguous().float()))
        answer: Tensor = self.deeper(self.pool(edges)).mean((2, 3))
        return answer


def image_with(*squares: tuple[int, int], colour: tuple[int, int, int] = RED) -> NDArray[np.uint8]:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    for top, left in squares:
        image[max(top, 0) : top + SQUARE, max(left, 0) : left + SQUARE] = colour
    return image


def looked_at(images: NDArray[np.uint8], folder: Path) -> list[Excitation]:
    model = trace(RedSquares().eval(), VIEW, ["answer"])
    choice = choose_layers(model)
    return excite(excitation_graph(model, choice.layers), choice.layers, images, scratch=folder, threads=2)


# The places where the first convolution has a value.
PLACES = [(-1 + 2 * row, -1 + 2 * column) for row, column in [(0, 0), (3, 8), (11, 2), (20, 20), (23, 23), (0, 9)]]


@pytest.fixture
def excited(tmp_path: Path) -> tuple[NDArray[np.uint8], list[Excitation]]:
    """Twelve images with a square each, the later the brighter, and as many without."""
    squares = [
        image_with(PLACES[i % len(PLACES)], colour=(brightness(i), 0, 0))
        for i in range(12)
    ]  # fmt: skip
    images = np.stack([*squares, *(image_with() for _ in range(12))])
    return images, looked_at(images, tmp_path)


def test_the_patch_that_excites_a_filter_is_the_square_that_it_was_made_for(
    excited: tuple[NDArray[np.uint8], list[Excitation]],
) -> None:
    images, (first, *_) = excited
    assert first.layer.name == "edges"
    (found,) = most_excited(first, SIZE, SIZE)
    assert found.channel == 0
    assert len({patch.image for patch in found.patches}) == len(found.patches) == 9
    for patch in found.patches:
        top, left = PLACES[patch.image % len(PLACES)]
        assert patch.window == patch.shown == Box(top, left, top + SQUARE, left + SQUARE)
        cut = cut_out(images[patch.image], patch.shown)
        is_inside = cut[..., 3] == 255
        assert is_inside.sum() == visible(top) * visible(left)
        assert (cut[is_inside][:, :3] == (brightness(patch.image), 0, 0)).all()
        assert patch.activation == brightness(patch.image) * is_inside.sum()
    activations = [patch.activation for patch in found.patches]
    assert activations == sorted(activations, reverse=True)


def test_a_deeper_filter_sees_the_square_through_the_pool(
    excited: tuple[NDArray[np.uint8], list[Excitation]],
) -> None:
    _, (_, deeper) = excited
    assert (deeper.layer.name, deeper.layer.windows.size) == ("deeper", (16, 16))
    (found,) = most_excited(deeper, SIZE, SIZE)
    for patch in found.patches:
        top, left = PLACES[patch.image % len(PLACES)]
        middle = Box(*(edge + shift for edge, shift in zip(patch.window, (4, 4, -4, -4), strict=True)))
        assert middle.top <= top <= middle.bottom - SQUARE
        assert middle.left <= left <= middle.right - SQUARE


def test_what_the_graph_says_is_what_the_network_computes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (11, SIZE, SIZE, 3), np.uint8)
    network = RedSquares()
    with torch.no_grad():
        maps = network.edges(torch.from_numpy(images).permute(0, 3, 1, 2).float()).flatten(2)
    first, _ = looked_at(images, tmp_path)
    np.testing.assert_allclose(first.values, maps.max(2).values, rtol=1e-5)
    assert (first.places == maps.argmax(2).numpy()).all()
    assert not list(tmp_path.iterdir())


def test_the_same_images_give_the_same_picture(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), np.uint8)
    pictures = [
        patches_picture(most_excited(looked_at(images, tmp_path)[0], SIZE, SIZE), images) for _ in range(2)
    ]
    assert (pictures[0] == pictures[1]).all()
    assert pictures[0].shape == (122, 2 * 122 + 8, 4)


def test_filters_that_answer_every_image_alike_are_left_out(tmp_path: Path) -> None:
    black = np.zeros((12, SIZE, SIZE, 3), np.uint8)
    assert [most_excited(layer, SIZE, SIZE) for layer in looked_at(black, tmp_path)] == [[], []]


def brightness(image: int) -> int:
    return 100 + 10 * image


def visible(begin: int) -> int:
    """How many of a square's rows or columns that begin there lie in the image."""
    return min(begin + SQUARE, SIZE) - max(begin, 0)
