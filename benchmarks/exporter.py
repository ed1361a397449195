"""Exports a network of the zoo twice: `python -m benchmarks.exporter MODEL FOLDER PHOTOGRAPHS VARIANT`.

The only part of the bench that needs torch, so it is a process that ends before anything is measured.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.artifacts import FOVEA, weights_folder
from benchmarks.plain import FACTS, PLAIN, View
from models.artifact import MODEL, Manifest, model_file, software_versions, write_manifest
from models.export import export
from models.graph_facts import shape_of
from models.normalise import Normalise
from models.preprocess import prepare
from models.spec import Preprocessing
from models.variants.float16 import float16
from models.variants.network import Network
from models.variants.search import PROBES, fastest_entry
from models.weights.loading import LoadedWeights, build_with_weights
from models.weights.published import NONE, resolve
from models.weights.store import WeightsStore

SEED = 0
PARITY_IMAGES = 16
INT8, FP16 = "int8", "fp16"
UNJUDGED = "made by the bench, which has no labels to judge it by"


def main(model: str, folder: Path, photographs: Path, variant: str) -> None:
    network, weights = _build(model)
    network.eval()
    paths = sorted(photographs.iterdir())[:PARITY_IMAGES]
    images = np.stack([prepare(path, weights.preprocessing) for path in paths])
    if weights.provenance["origin"] == NONE:
        _fit_statistics(network, images, weights.preprocessing)
    _export_plain(network, weights, folder)
    _export_fovea(model, network, weights, images, variant, folder / FOVEA)


def _build(model: str) -> tuple[nn.Module, LoadedWeights]:
    """With the published weights where their file lies in the weights folder, else with random ones."""
    torch.manual_seed(SEED)
    store = WeightsStore(weights_folder() or Path("weights"), offline=True)
    published = store.has(resolve(model))
    return build_with_weights(model, "imagenet" if published else NONE, store)


def _fit_statistics(network: nn.Module, images: NDArray[np.uint8], preprocessing: Preprocessing) -> None:
    """Batch normalisation as after training; without it activations shrink to values that may cost other times."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    with torch.inference_mode():
        network(Normalise(preprocessing, channels=3)(torch.from_numpy(images)))
    network.eval()


def _export_plain(network: nn.Module, weights: LoadedWeights, folder: Path) -> None:
    preprocessing = weights.preprocessing
    # Of two images: torch would take a size of one for a constant.
    example = torch.zeros(2, 3, preprocessing.height, preprocessing.width)
    program: Any = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    program.save(folder / PLAIN, external_data=False)
    values = preprocessing.to_dict()
    if (values["fit"], values["interpolation"]) != ("crop", "bilinear"):
        raise ValueError(f"the plain way knows a bilinear resize and a crop, not {preprocessing}")
    view = {field.name: values[field.name] for field in dataclasses.fields(View)}
    (folder / FACTS).write_text(json.dumps({"view": view, "labels": _labels(weights)}), "utf-8")


def _labels(weights: LoadedWeights) -> tuple[str, ...]:
    return weights.labels or tuple(f"class {number}" for number in range(1000))


def _outputs(model: Path) -> dict[str, list[int]]:
    """The graph's outputs with their sizes for one image."""
    outputs = onnx.load(model).graph.output
    return {value.name: [size for size in shape_of(value)[1:] if isinstance(size, int)] for value in outputs}


def _export_fovea(
    model: str,
    network: nn.Module,
    weights: LoadedWeights,
    images: NDArray[np.uint8],
    variant: str,
    folder: Path,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = _labels(weights)
    report = export(network, folder, preprocessing=weights.preprocessing, labels=labels, images=images)
    if variant == INT8:
        _write_int8(folder, images)
    else:
        onnx.save(float16(onnx.load(folder / MODEL)), folder / model_file(FP16))
    write_manifest(
        folder,
        Manifest(
            model=model,
            labels=labels,
            preprocessing=weights.preprocessing,
            architecture=model,
            weights=weights.provenance,
            seed=SEED,
            software=software_versions(),
            parity=report.to_dict(),
            outputs=_outputs(folder / MODEL),
            variants={variant: {"precision": variant, "passed": True, "reason": UNJUDGED}},
        ),
    )


def _write_int8(folder: Path, images: NDArray[np.uint8]) -> None:
    """By the first recipe that a `variants` job tries. Without labels no gate can judge it."""
    network = Network(folder / MODEL, images)
    with tempfile.TemporaryDirectory(prefix="fovea-bench-") as scratch:
        recipe = fastest_entry(network, network.probes(PROBES), Path(scratch))
    onnx.save(network.made(dataclasses.replace(recipe, rounded=True)), folder / model_file(INT8))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
