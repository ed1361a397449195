"""The card's pictures, as SVG text that needs no other file. Knows evaluations, not where they came from."""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models.training.linear import Trial
from models.training.metrics import Metrics, ReliabilityBin
from models.training.progress import EpochRecord

BLUE, ORANGE, GREY = "#2563a8", "#c8641b", "#8a8f98"
# More classes than this have no room for their names beside a matrix.
NAMED = 30


def learning_curves(history: Sequence[EpochRecord], best_epoch: int) -> str:
    """Loss and accuracy over the epochs, in training and validation; the epoch that was kept is marked."""

    def draw(figure: Figure) -> None:
        epochs = [record.epoch for record in history]
        panels = (
            ("Loss", [r.loss for r in history], [r.validation_loss for r in history]),
            ("Accuracy", [r.accuracy for r in history], [r.validation_accuracy for r in history]),
        )
        for i, (name, training, validation) in enumerate(panels):
            axes = figure.add_subplot(1, 2, i + 1)
            axes.plot(epochs, training, color=GREY, label="training")
            axes.plot(epochs, validation, color=BLUE, label="validation")
            axes.axvline(best_epoch, color=ORANGE, linewidth=1, linestyle=":", label="kept")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            _label(axes, "Epoch", name)
            axes.legend(frameon=False, fontsize=8)

    return _svg((8, 3), draw)


def l2_curves(trials: Sequence[Trial], chosen: float) -> str:
    """The cross-validated loss and accuracy of a regression over the strength of its penalty."""

    def draw(figure: Figure) -> None:
        for i, name in enumerate(("loss", "accuracy")):
            axes = figure.add_subplot(1, 2, i + 1)
            for varied, colour, label in ((False, GREY, "plain images"), (True, BLUE, "with variations")):
                points = sorted((t.l2, getattr(t, name)) for t in trials if t.augmented == varied)
                if points:
                    axes.semilogx(*zip(*points, strict=True), color=colour, marker="o", markersize=3, label=label)
            axes.axvline(chosen, color=ORANGE, linewidth=1, linestyle=":", label="chosen")
            _label(axes, "Weight of the L2 penalty", f"Cross-validated {name}")
            axes.legend(frameon=False, fontsize=8)

    return _svg((8, 3), draw)


def reliability_diagram(evaluation: Metrics) -> str:
    """How often the model is right against how sure it says it is, before and after calibration."""

    def draw(figure: Figure) -> None:
        panels: tuple[tuple[str, Sequence[ReliabilityBin], float], ...] = (
            ("Before", evaluation.reliability_curve_uncalibrated, evaluation.calibration_error_uncalibrated),
            ("After calibration", evaluation.reliability_curve, evaluation.calibration_error),
        )
        for i, (name, bins, error) in enumerate(panels):
            axes = figure.add_subplot(1, 2, i + 1)
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
            sizes = [20 + 180 * b.count / evaluation.images for b in bins]
            axes.scatter([b.confidence for b in bins], [b.accuracy for b in bins], s=sizes, color=BLUE, alpha=0.7)
            axes.set_xlim(0, 1.02)
            axes.set_ylim(0, 1.05)
            axes.set_title(f"{name}: error {error:.3f}", fontsize=9)
            _label(axes, "Confidence", "Accuracy")

    return _svg((8, 3.4), draw)


def confusion_matrix(evaluation: Metrics) -> str:
    """Rows are true classes, columns are answers; shades are shares of the row."""
    labels = [score.label for score in evaluation.classes]

    def draw(figure: Figure) -> None:
        counts = np.array(evaluation.confusion_matrix)
        shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
        axes = figure.add_subplot(1, 1, 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        _label(axes, "Answer", "Truth")
        if len(labels) > NAMED:
            return
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(range(len(labels)), labels, fontsize=7, parse_math=False)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.6 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)

    side = min(8.0, 2.2 + 0.32 * min(len(labels), NAMED))
    return _svg((side, side), draw)


def _label(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _svg(size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    with _quiet():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    # What stands before the root element is for files, not for a page.
    return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.DOTALL)


@contextmanager
def _quiet() -> Iterator[None]:
    """Text stays text, so that the reader's fonts show any script; matplotlib's own would warn of gaps."""
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fovea"}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            yield
    finally:
        fonts.setLevel(level)
