"""What an artifact has of its filters: all facts in a file, pictures beside it, the short ones in its manifest.

Knows no torch: of a network that was not trained here it needs the graph alone.
"""

import json
from pathlib import Path
from typing import Any

import onnx

from models.filters.files import FACTS, FINDING, FOLDER, KERNELS, picture_key
from models.filters.kernels import Kernels, NoKernels, kernels_of_graph, kernels_picture
from models.filters.page import HEADING, filter_blocks
from models.filters.tiles import encoded
from models.findings.finding import Finding

# Of a layer's facts, for the manifest.
LONG = frozenset({"filters", "grid"})
UNSEEN = "Which patches excite its deeper layers was not looked for: "

Facts = dict[str, Any]
Pictures = dict[str, bytes]


def kernel_facts(model: onnx.ModelProto) -> tuple[Facts, Pictures]:
    """Of the first kernels of a graph; the facts are JSON, and have room for what is found of deeper layers."""
    found = kernels_of_graph(model)
    facts: Facts = {"kernels": _described(found), "images": None, "layers": [], "left_out": []}
    return facts, {KERNELS: encoded(kernels_picture(found), "png")} if isinstance(found, Kernels) else {}


def kernel_facts_alone(model: onnx.ModelProto) -> tuple[Facts, Pictures]:
    """The same of a network that was not trained here, whose images are not at hand."""
    facts, pictures = kernel_facts(model)
    facts["left_out"] = [f"{UNSEEN}there are no validation images of a network that was not trained here."]
    return facts, pictures


def kept(folder: Path, facts: Facts, pictures: Pictures) -> Finding:
    """Writes them into the artifact's folder. Raises OSError on a full disk."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, content in pictures.items():
        (folder / picture_key(name)).write_bytes(content)
    (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    short = [{name: value for name, value in layer.items() if name not in LONG} for layer in facts["layers"]]
    return Finding(FINDING, {**facts, "layers": short}, HEADING, filter_blocks(facts, pictures))


def _described(found: Kernels | NoKernels) -> Facts:
    if isinstance(found, NoKernels):
        return {"picture": None, "reason": found.reason}
    count, channels, height, width = found.weights.shape
    return {
        "picture": KERNELS,
        "layer": found.name,
        "count": count,
        "shown": found.shown,
        "channels": channels,
        "kernel": [height, width],
        "stride": list(found.stride),
        "largest": [float(f"{value:.4g}") for value in found.largest[: found.shown]],
    }
