"""MobileNet v1's ImageNet weights in the layout of Keras Applications: where they are and how they are read.

Source: Google's checkpoints, published with Keras Applications under the Apache licence 2.0.
"""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import WeightsCorrupt, without_folder
from models.spec import Preprocessing
from models.weights.labels import imagenet_labels
from models.weights.source import Checksum, WeightsSource

URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

# Architecture -> the width as it is written in the file names, and the paper's top-1 accuracy in percent.
WIDTHS = {
    "mobilenet_v1": ("1_0", 70.6),
    "mobilenet_v1_075": ("7_5", 68.4),
    "mobilenet_v1_050": ("5_0", 63.7),
    "mobilenet_v1_025": ("2_5", 50.6),
}
# Keras Applications publishes no checksums. This one was computed from a copy of the file that gives the accuracy
# expected of it; the other widths' files have not been seen by the authors.
KNOWN_SHA256 = {"2_5": "4519e3005c17d74f5f453a75412ebb4b98afc2e31c5038fc85b13997b37ac7bf"}

# What was never written into an HDF5 file takes no room in it, and all of its room in memory.
MOST_VALUES = 64_000_000

KERNELS = {"kernel:0", "depthwise_kernel:0"}
NORMS = {
    "gamma:0": "weight",
    "beta:0": "bias",
    "moving_mean:0": "running_mean",
    "moving_variance:0": "running_var",
}


def keras_sources(architecture: str) -> list[WeightsSource]:
    """The published file for an architecture, or nothing."""
    if architecture not in WIDTHS:
        return []
    width, accuracy = WIDTHS[architecture]
    filename = f"mobilenet_{width}_224_tf.h5"
    known = KNOWN_SHA256.get(width)
    return [
        WeightsSource(
            architecture=architecture,
            name="imagenet",
            origin="keras",
            filename=filename,
            url=URL + filename,
            preprocessing=PREPROCESSING,
            labels=imagenet_labels(),
            checksum=Checksum(sha256=known),
            licence="Apache-2.0",
            metrics={"acc@1": accuracy},
            default=True,
            notes=() if known else ("no checksum is published for this file",),
        )
    ]


def read_keras(path: Path) -> dict[str, Tensor]:
    """The file's values under `MobileNetV1`'s names and in PyTorch's order of axes, float32.

    Kernels come as [height, width, in, out], depthwise ones as [height, width, in, 1]. Raises WeightsCorrupt.
    """
    state: dict[str, Tensor] = {}
    try:
        with h5py.File(path, "r") as file:
            for layer, name, values in _arrays(file):
                state |= _translated(path, layer, name, values)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError, AttributeError) as exc:
        raise WeightsCorrupt(f"{path.name} cannot be read as an HDF5 file: {without_folder(exc, path)}") from exc
    if not state:
        raise WeightsCorrupt(f"{path.name} holds no layer of a MobileNet v1 in the layout of Keras Applications")
    return state


def _arrays(file: h5py.File) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """(layer, array name, values) of every array; the groups are nested twice by the layer's name."""
    found: list[tuple[str, str, NDArray[np.float32]]] = []
    values = 0

    def visit(path: str, item: object) -> None:
        nonlocal values
        if isinstance(item, h5py.Dataset):
            values += item.size or 0
            if values > MOST_VALUES:
                raise WeightsCorrupt(f"it claims more than {MOST_VALUES:,} values; a MobileNet v1 has 4 million")
            layer, _, name = path.rpartition("/")
            found.append((layer.rpartition("/")[2], name, np.asarray(item[()], dtype=np.float32)))

    file.visititems(visit)
    yield from found


def _translated(path: Path, layer: str, name: str, values: NDArray[np.float32]) -> dict[str, Tensor]:
    if layer == "conv_preds":
        flat = values.reshape(values.shape[-2], values.shape[-1]).T if name in KERNELS else values
        return {f"head.{name.removesuffix(':0').replace('kernel', 'weight')}": _tensor(flat)}
    base = layer.removesuffix("_bn")
    module = _module(base)
    if module is None:
        raise WeightsCorrupt(f"{path.name} holds the layer {layer!r}, which MobileNet v1 does not have")
    if layer.endswith("_bn") and name in NORMS:
        return {f"{module}.bn.{NORMS[name]}": _tensor(values)}
    if name in KERNELS and values.ndim == 4:
        axes = (2, 3, 0, 1) if name == "depthwise_kernel:0" else (3, 2, 0, 1)
        return {f"{module}.conv.weight": _tensor(values.transpose(axes))}
    raise WeightsCorrupt(
        f"{path.name} holds {layer}/{name} {list(values.shape)}, which MobileNet v1 does not have"
    )


def _module(layer: str) -> str | None:
    """`conv_dw_3` -> `features.3.depthwise`."""
    if layer == "conv1":
        return "features.0"
    part, _, number = layer.rpartition("_")
    kind = {"conv_dw": "depthwise", "conv_pw": "pointwise"}.get(part)
    return f"features.{number}.{kind}" if kind and number.isdigit() else None


def _tensor(values: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
