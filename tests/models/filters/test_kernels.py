"""First-layer kernels as a picture, of every kind of first convolution that there is."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.model_files import SIZE

from models.filters.files import file_stem
from models.filters.kernels import Kernels, NoKernels, kernels_of_graph, kernels_picture
from models.filters.tiles import in_rows
from models.spec import INPUT


def graph_with(*nodes: onnx.NodeProto, **weights: np.ndarray) -> onnx.ModelProto:
    before = [
        helper.make_node("Cast", [INPUT], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["pixels"], perm=[0, 3, 1, 2]),
    ]
    graph = helper.make_graph(
        [*before, *nodes],
        "kernels",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph)


def conv(read: str = "pixels", weight: str = "weight", **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [read, weight], ["answer"], **attributes)


def found(*nodes: onnx.NodeProto, **weights: np.ndarray) -> Kernels:
    kernels = kernels_of_graph(graph_with(*nodes, **weights))
    assert isinstance(kernels, Kernels)
    return kernels


def test_each_kernel_stands_on_its_own_scale_with_zero_in_the_middle() -> None:
    weights = np.zeros((3, 3, 2, 2), np.float32)
    weights[0, :, 0, 0], weights[0, :, 1, 1] = (100, 50, 0), (-100, 0, 0)
    weights[1, 2, 0, 1] = 0.001
    kernels = found(conv(strides=[2, 2]), weight=weights)
    assert (kernels.shown, kernels.stride) == (3, (2, 2))
    assert kernels.largest.tolist() == pytest.approx([100, 0.001, 0])
    picture = kernels_picture(kernels)
    # Each is enlarged 18 times to 36 pixels, with two between.
    assert picture.shape == (36 * 2 + 2, 36 * 2 + 2, 4)
    assert picture[0, 0].tolist() == [255, 191, 128, 255]
    assert (picture[:18, :18] == picture[0, 0]).all()
    assert picture[35, 35].tolist() == [0, 128, 128, 255]
    assert picture[0, 38 + 18].tolist() == [128, 128, 255, 255]
    assert (picture[38:, :36, :3] == 128).all()
    assert not picture[36:38].any()


def test_kernels_that_read_one_channel_are_grey() -> None:
    depthwise = found(conv(group=3), weight=np.ones((6, 1, 3, 3), np.float32))
    picture = kernels_picture(depthwise)
    assert (picture[..., 0] == picture[..., 2]).all()


def test_the_convolution_that_makes_an_image_grey_is_none_of_the_network() -> None:
    grey = helper.make_node("Conv", ["pixels", "luminance"], ["grey"])
    kernels = found(
        grey,
        conv("grey", "network.first.weight"),
        **{
            "luminance": np.ones((1, 3, 1, 1), np.float32),
            "network.first.weight": np.ones((5, 1, 4, 4), np.float32),
        },
    )
    assert (kernels.name, kernels.weights.shape) == ("first", (5, 1, 4, 4))


def test_of_many_large_kernels_the_first_are_shown() -> None:
    kernels = found(conv(), weight=np.random.default_rng(0).normal(size=(768, 3, 16, 16)).astype(np.float32))
    assert 100 < kernels.shown < 768
    assert kernels_picture(kernels).size < 1_000_000


@pytest.mark.parametrize(
    ("nodes", "weight", "reason"),
    [
        ([conv()], np.ones((4, 48, 3, 3)), "reads 48 channels: pixels are put together before it"),
        ([conv()], np.ones((4, 3, 100, 100)), "100x100, which is no picture"),
        ([conv()], np.full((4, 3, 3, 3), np.nan), "are not all numbers"),
        ([conv(weight="computed")], np.ones((4, 3, 3, 3)), "it computes them"),
        ([helper.make_node("Flatten", ["pixels"], ["answer"])], np.ones(1), "no convolution that reads the image"),
    ],
)
def test_where_there_is_nothing_to_see_it_says_why(
    nodes: list[onnx.NodeProto], weight: np.ndarray, reason: str
) -> None:
    answer = kernels_of_graph(graph_with(*nodes, weight=weight.astype(np.float32)))
    assert isinstance(answer, NoKernels)
    assert reason in answer.reason


def test_what_strangers_call_a_layer_is_text_that_a_page_and_a_path_can_hold() -> None:
    name = "a\n../<b>" + "x" * 1000
    kernels = found(conv(weight=name), **{name: np.ones((4, 3, 3, 3), np.float32)})
    assert "\n" not in kernels.name
    assert len(kernels.name) <= 120
    assert file_stem(name).startswith("a-..-b-x")
    assert len(file_stem(name)) <= 80
    assert file_stem("../..") == "layer"


def test_tiles_stand_in_rows_with_transparent_gaps() -> None:
    tiles = np.full((3, 2, 2, 4), 255, np.uint8)
    picture = in_rows(tiles, columns=2, gap=1)
    assert picture.shape == (5, 5, 4)
    assert picture[..., 3].sum() == 3 * 4 * 255
    assert not picture[2].any()
    assert not picture[3:, 3:].any()
