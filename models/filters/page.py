"""What a card says of filters, in words and pictures."""

from collections.abc import Mapping
from typing import Any

from models.card.blocks import Block, Details, Paragraph, Picture
from models.filters.files import KERNELS

HEADING = "What the network sees"
PNG, WEBP = "image/png", "image/webp"


def filter_blocks(facts: Mapping[str, Any], pictures: Mapping[str, bytes]) -> list[Block]:
    """`facts` as `models.findings.filters` has them; deeper layers are folded, the first of them as well."""
    kernels = facts["kernels"]
    blocks: list[Block] = []
    if kernels["picture"]:
        alt = f"The kernels of {kernels['layer']}"
        blocks.append(Picture(pictures[KERNELS], PNG, alt, _kernel_words(kernels)))
    else:
        blocks.append(Paragraph(f"There is no picture of its first kernels. {kernels['reason']}."))
    if layers := facts["layers"]:
        images = facts["images"]
        blocks.append(
            Paragraph(
                f"Deeper filters are shown by what excites them most among {images['shown']} of {images['of']} "
                "validation images: for each filter nine patches of different images, the strongest at the top "
                "left. Of each layer those filters are shown whose nine stand out most from the other images."
            )
        )
        blocks += [_folded(layer, pictures) for layer in layers]
    blocks += [Paragraph(text) for text in facts["left_out"]]
    return blocks


def _kernel_words(kernels: Mapping[str, Any]) -> str:
    height, width = kernels["kernel"]
    count, shown = kernels["count"], kernels["shown"]
    which = f"All {count}" if shown == count else f"The first {shown} of {count}"
    colours = (
        "in its red, green and blue weights" if kernels["channels"] == 3 else "in grey, for each reads one channel"
    )
    return (
        f"{which} kernels of {kernels['layer']}, {height}x{width}, {colours}, with its batch normalisation if it "
        "has one. Each is on its own scale: middle grey is 0, the brightest or darkest its largest weight. A "
        "dead one is grey all over."
    )


def _folded(layer: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Details:
    name, field = layer["name"], _size(layer["receptive_field"])
    return Details(
        f"{name}: each value is computed from {field} pixels",
        [Picture(pictures[layer["picture"]], WEBP, f"Patches that excite filters of {name}", _layer_words(layer))],
    )


def _layer_words(layer: Mapping[str, Any]) -> str:
    numbers = ", ".join(str(found["filter"]) for found in layer["filters"])
    across = layer["grid"]["filters_across"]
    rows = f", {across} in a row" if len(layer["filters"]) > across else ""
    cut = (
        f" A patch is the middle {_size(layer['cut'])} of that window, which is larger than half of the image."
        if layer["cut"] != layer["receptive_field"]
        else " A patch is all of that window; where it is empty, the image ends."
    )
    gated = (
        " A gate or norm over the whole image acts on every value as well, which no window shows."
        if layer["gated"]
        else ""
    )
    return f"Filters {numbers} of {layer['channels']}{rows}, as they are before their activation.{cut}{gated}"


def _size(pair: list[int]) -> str:
    return f"{pair[0]}x{pair[1]}"
