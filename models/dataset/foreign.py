"""The folder of a dataset whose images show nothing that is to be learnt. It is no class."""

from collections.abc import Iterable

from models.dataset.sample import natural_order

NONE_LABELS = frozenset({"none", "__none__"})


def is_foreign(label: str) -> bool:
    """Whether a folder of that name, or rows of a manifest with that label, have images of none of the classes."""
    return label.strip().casefold() in NONE_LABELS


def class_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Those of classes, in natural order."""
    return natural_order(label for label in labels if not is_foreign(label))
