"""Where an artifact has what was found of its filters. The gateway reads it: no torch, no onnx."""

import re

FINDING = "filters"
FOLDER = "filters"
FACTS = f"{FOLDER}/filters.json"
KERNELS = "kernels.png"
# What a picture's name may be: never a part of a blob's key that leads elsewhere.
PICTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(png|webp)")


def picture_key(name: str) -> str:
    """The path of a picture inside its artifact."""
    return f"{FOLDER}/{name}"


def file_stem(name: str) -> str:
    """The name of a layer as that of a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-")[:80] or "layer"
