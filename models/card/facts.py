"""What cards of every kind say of a manifest, in words."""

from datetime import datetime

from models.artifact import Manifest


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
