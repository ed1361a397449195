"""The names of ImageNet's 1000 classes, in the order of the networks' outputs. Knows no torch."""

import functools
import importlib.resources
import json


@functools.cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 names as torchvision gives them, which keep two pairs of equal names apart."""
    text = importlib.resources.files("models.weights").joinpath("imagenet_1k.json").read_text("utf-8")
    return tuple(json.loads(text))
