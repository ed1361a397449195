"""What cards of every kind say of a manifest, in words."""

from datetime import datetime

from models.artifact import Manifest
from models.card.blocks import Block, Details, Numbered, Paragraph, fact_table

# More labels than these are folded.
MANY_LABELS = 20


def date_of(manifest: Manifest) -> str:
    """The day on which it was made, in UTC: `25 November 2026`."""
    made = datetime.fromisoformat(manifest.created_at)
    return f"{made.day} {made:%B %Y}"


def input_of(manifest: Manifest) -> str:
    """The pixels that the network takes and how an image becomes them."""
    view = manifest.preprocessing
    how = (
        f"the middle of the image with its shorter side at {view.resize}"
        if view.fit == "crop"
        else "the whole image, whatever its aspect"
    )
    return f"{view.height}x{view.width} pixels, RGB: {how}; {view.interpolation}"


def parity_of(manifest: Manifest) -> str:
    """What the parity gate found."""
    parity = manifest.parity
    batches = ", ".join(map(str, parity["batch_sizes"]))
    return (
        f"{parity['agreement']:.0%} of {parity['images']} images agree at batch {batches}; the largest difference "
        f"of a logit is {parity['max_abs_diff']:.2g}"
    )


def built_with(manifest: Manifest) -> str:
    """Versions of the software that made it."""
    return ", ".join(f"{name} {version}" for name, version in manifest.software.items())


def input_blocks(manifest: Manifest) -> list[Block]:
    """What stands under "What it expects"."""
    view = manifest.preprocessing
    return [
        fact_table(
            {
                "image": input_of(manifest),
                "mean of red, green, blue": ", ".join(f"{value:g}" for value in view.mean),
                "standard deviation": ", ".join(f"{value:g}" for value in view.std),
            }
        ),
        Paragraph(
            "Mean and deviation, of pixels from 0 to 1, are applied inside model.onnx: give it 8-bit pixels."
        ),
    ]


def label_blocks(manifest: Manifest) -> list[Block]:
    """The classes; of many the first ones, and all of them folded."""
    labels = manifest.labels
    listed = Numbered(labels)
    if list(labels) == [str(i) for i in range(len(labels))]:
        return [Paragraph(f"{len(labels)} classes by their numbers: no names came with the weights.")]
    if len(labels) <= MANY_LABELS:
        return [listed]
    some = ", ".join(labels[:8])
    return [Paragraph(f"{len(labels)} classes: {some} ..."), Details(f"All {len(labels)} labels", [listed])]
