"""What a network sees: its first kernels as a picture, and the patches that excite filters of deeper layers most.

After Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2013), whose figures show both.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from models.filters.deep_layers import choose_layers, multiply_adds
from models.filters.excitation import Excitation, excitation_graph, excite
from models.filters.files import file_stem
from models.filters.graph_windows import shapes_of
from models.filters.patches import (
    ACROSS,
    FILTERS_ACROSS,
    GAP,
    PER_FILTER,
    SIDE,
    WIDE_GAP,
    ExcitedFilter,
    most_excited,
    patches_picture,
)
from models.filters.record import UNSEEN, Facts, Pictures, kept, kernel_facts
from models.filters.tiles import encoded
from models.findings.finding import Finding
from models.findings.subject import Subject

# What the images may cost together, in multiply-adds: about a tenth of a second on two cores. A large network
# costs more, for of fewer images than the fewest nine say nothing.
AFFORDED = 2 * 10**9
FEWEST_IMAGES, MOST_IMAGES = 24, 128
# How the picture of a layer is laid out, in pixels: a square of patches for each filter.
GRID = {
    "patch": SIDE,
    "gap": GAP,
    "patches_across": ACROSS,
    "filters_across": FILTERS_ACROSS,
    "gap_between_filters": WIDE_GAP,
}


def find_filters(subject: Subject) -> Finding:
    """See `Finder`. Validation images, evenly spread over all of them, are shown to as many as can be afforded."""
    model = onnx.load(subject.model)
    validation = subject.inputs.split.validation
    facts, pictures = kernel_facts(model)
    if len(validation) <= PER_FILTER:
        words = f"{len(validation)} validation image{'' if len(validation) == 1 else 's'}"
        facts["left_out"] = [f"{UNSEEN}nine of more images are shown, and there are {words}."]
        return kept(subject.folder, facts, pictures)
    choice = choose_layers(model)
    facts["left_out"] = [choice.left_out] if choice.left_out else []
    if choice.layers:
        graph = excitation_graph(model, choice.layers)
        rows = _evenly(len(validation), AFFORDED // max(1, multiply_adds(graph.graph, shapes_of(model.graph))))
        images = subject.inputs.validation.array[rows]
        excited = excite(graph, choice.layers, images, scratch=subject.folder.parent, threads=subject.threads)
        facts["images"] = {"shown": len(rows), "of": len(validation), "part": "validation"}
        for excitation in excited:
            _add_layer(facts, pictures, excitation, images, [validation.names[row] for row in rows])
    return kept(subject.folder, facts, pictures)


def _add_layer(
    facts: Facts, pictures: Pictures, excitation: Excitation, images: NDArray[np.uint8], names: Sequence[str]
) -> None:
    layer = excitation.layer
    height, width = images.shape[1:3]
    filters = most_excited(excitation, height, width)
    if not filters:
        facts["left_out"].append(
            f"The filters of {layer.name} answer every image alike, so nothing is shown of them."
        )
        return
    picture = f"{len(facts['layers']) + 1}-{file_stem(layer.name)}.webp"
    pictures[picture] = encoded(patches_picture(filters, images), "webp")
    size, shown = layer.windows.size, filters[0].patches[0].shown
    facts["layers"].append(
        {
            "name": layer.name,
            "picture": picture,
            "kernel": list(layer.kernel),
            "channels": layer.channels,
            "map": list(layer.map),
            "receptive_field": list(size),
            "step": list(layer.windows.jump),
            "gated": layer.windows.gated,
            "grid": GRID,
            "cut": [shown.bottom - shown.top, shown.right - shown.left],
            "filters": [_filter_facts(found, names) for found in filters],
        }
    )


def _filter_facts(found: ExcitedFilter, names: Sequence[str]) -> Facts:
    return {
        "filter": found.channel,
        "patches": [
            {
                "image": names[patch.image],
                "row": patch.row,
                "column": patch.column,
                "activation": float(f"{patch.activation:.5g}"),
                "window": list(patch.window),
                "shown": list(patch.shown),
            }
            for patch in found.patches
        ],
    }


def _evenly(count: int, afforded: int) -> list[int]:
    most = min(count, max(FEWEST_IMAGES, min(afforded, MOST_IMAGES)))
    found: list[int] = np.linspace(0, count - 1, most).round().astype(int).tolist()
    return found
