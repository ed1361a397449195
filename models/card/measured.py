"""What cards say of labelled images that a version classified: by class, and what it confuses. Draws no plots."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.card.blocks import Block, Caution, Cell, Details, Matrix, Paragraph, Share, Table
from models.training.metrics import ClassMetrics

# Below it a class's metrics say little: one image more or less moves them by percents.
FEW_IMAGES = 20
# Of more classes the matrix and the table show a choice; the rest is folded.
MANY_CLASSES = 25
# A matrix of so few leaves nothing to say about pairs.
FEW_CLASSES = 3
SHOWN_CLASSES = 12
CONFUSED_PAIRS = 10


def by_class(classes: Sequence[ClassMetrics]) -> list[Block]:
    """A row for each class; of many the weakest, and the others folded."""
    if len(classes) <= MANY_CLASSES:
        return [_class_table(classes)]
    weakest = sorted((c for c in classes if c.f1 is not None), key=lambda c: c.f1 or 0.0)[:SHOWN_CLASSES]
    return [
        Paragraph(f"The {len(weakest)} classes with the lowest F1, of {len(classes)}."),
        _class_table(weakest),
        Details(f"All {len(classes)} classes", [_class_table(classes)]),
    ]


def _class_table(classes: Sequence[ClassMetrics]) -> Table:
    def decimals(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    rows: list[list[Cell]] = [
        [
            c.label,
            decimals(c.precision),
            decimals(c.recall),
            Share(c.f1 or 0.0, decimals(c.f1)),
            str(c.support),
        ]
        for c in classes
    ]
    return Table(["class", "precision", "recall", "F1", "images"], rows, numbers_from=1)


def few_images(classes: Sequence[ClassMetrics]) -> list[Block]:
    """A caution where a class has so few images that its row says little."""
    few = [c.label for c in classes if c.support < FEW_IMAGES]
    if not few:
        return []
    named = ", ".join(few[:8]) + (f" and {len(few) - 8} more classes" if len(few) > 8 else "")
    return [Caution(f"Fewer than {FEW_IMAGES} images of {named} were measured: take those rows as a rough guide.")]


def confusions(labels: Sequence[str], counts: NDArray[np.int64]) -> list[Block]:
    """The matrix, rows true classes and columns answers, of many classes its worst part; and the pairs."""
    if len(labels) <= MANY_CLASSES:
        matrix = Matrix(labels, counts, range(1, len(labels) + 1))
        is_all_right = int(np.trace(counts)) == int(counts.sum())
        said = len(labels) <= FEW_CLASSES and not is_all_right
        return [matrix] if said else [matrix, _confused_pairs(labels, counts)]
    shown = _most_confused(counts)
    part = Matrix([labels[i] for i in shown], counts[np.ix_(shown, shown)], [int(i) + 1 for i in shown])
    text = Paragraph(f"The {len(shown)} classes with the most wrong answers, among themselves.")
    closer: list[Block] = [text, part] if len(shown) else []
    return [*closer, _confused_pairs(labels, counts)]


def _most_confused(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes with the most wrong answers, about them or for them, in their order."""
    wrong = counts - np.diag(np.diag(counts))
    involved = wrong.sum(axis=0) + wrong.sum(axis=1)
    most = np.argsort(-involved, kind="stable")[:SHOWN_CLASSES]
    return np.sort(most[involved[most] > 0])


def _confused_pairs(labels: Sequence[str], counts: NDArray[np.int64]) -> Block:
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED_PAIRS]
    pairs = [divmod(int(place), len(wrong)) for place in order]
    rows = [[labels[t], labels[p], str(wrong[t, p])] for t, p in pairs if wrong[t, p]]
    if not rows:
        return Paragraph("Nothing: every answer was right.")
    return Table(["truth", "answer", "images"], rows, numbers_from=2)
