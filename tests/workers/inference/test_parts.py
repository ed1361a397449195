"""How many images a core classifies in one run, measured on real ONNX graphs."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

from models.devices import CPU
from workers.inference.parts import GPU_WARM_UP, SIZES, split, warmed_up, worthwhile

WIDE = 4096


class BareSession:
    """A graph that takes what a predictor takes, on the processor, and what it was warmed with."""

    def __init__(self, model: Path, provider: str = CPU) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=[CPU])
        self.provider = provider
        self.sizes: list[int] = []

    def warm_up(self, sizes: "list[int] | tuple[int, ...]") -> None:
        for size in sizes:
            self.sizes.append(size)
            self.session.run(None, {"image": np.zeros((size, WIDE), np.float32)})


def dense_layers(count: int) -> list[NDArray[np.float32]]:
    return [np.full((WIDE, WIDE), 1e-3, np.float32) for _ in range(count)]


def convolutions(folder: Path) -> Path:
    """A few weights and much to do with each."""
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["plane"]),
        helper.make_node("Conv", ["plane", "first"], ["x0"], pads=[1, 1, 1, 1]),
        *(helper.make_node("Conv", [f"x{n}", "kernel"], [f"x{n + 1}"], pads=[1, 1, 1, 1]) for n in range(6)),
    ]
    first, kernel = (np.full((64, channels, 3, 3), 1e-2, np.float32) for channels in (1, 64))
    constants = {"first": first, "kernel": kernel, "shape": np.array([-1, 1, 64, 64])}
    return _saved(folder, nodes, constants, "x6")


def dense(folder: Path) -> Path:
    weights = {f"w{n}": values for n, values in enumerate(dense_layers(4))}
    nodes = [
        helper.make_node("MatMul", ["image" if n == 0 else f"y{n}", f"w{n}"], [f"y{n + 1}"]) for n in range(4)
    ]
    return _saved(folder, nodes, weights, "y4")


def _saved(folder: Path, nodes: list[object], constants: dict[str, NDArray[np.generic]], output: str) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", WIDE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    path = folder / "model.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_a_network_with_large_dense_layers_takes_several_images_at_once(tmp_path: Path) -> None:
    assert warmed_up(BareSession(dense(tmp_path))) == SIZES[-1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("costs", "size"),
    [
        ((5.0, 5.0, 5.0), 1),
        ((5.0, 4.9, 4.9), 1),
        ((5.0, 4.7, 4.7), 2),
        ((20.0, 19.1, 18.5), 4),
        # What two do not gain, four may.
        ((5.0, 4.9, 4.7), 4),
        ((5.0, 4.7, 6.0), 2),
    ],
)
def test_a_larger_run_is_taken_where_it_saves_more_than_measuring_errs(
    costs: tuple[float, ...], size: int
) -> None:
    assert worthwhile(dict(zip(SIZES, costs, strict=True))) == size


def test_a_gpu_takes_the_whole_batch_and_is_warmed_with_several_sizes(tmp_path: Path) -> None:
    session = BareSession(convolutions(tmp_path), provider="CUDAExecutionProvider")
    assert warmed_up(session) is None  # type: ignore[arg-type]
    assert session.sizes == list(GPU_WARM_UP)


@pytest.mark.parametrize(
    ("images", "size", "cores", "sizes"),
    [
        (5, 1, 2, [1, 1, 1, 1, 1]),
        (8, 4, 2, [4, 4]),
        (9, 4, 2, [4, 4, 1]),
        (3, 4, 2, [2, 1]),
        (1, 4, 2, [1]),
        (10, None, 2, [10]),
        (0, 1, 2, []),
    ],
)
def test_a_batch_is_split_such_that_no_core_waits(
    images: int, size: int | None, cores: int, sizes: list[int]
) -> None:
    parts = split(images, size, cores)
    assert [len(part) for part in parts] == sizes
    assert [place for part in parts for place in part] == list(range(images))
