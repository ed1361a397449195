"""The card's plots, as SVG elements that take colours and fonts from the page. Knows metrics, not their source."""

import html
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from models.card.blocks import Plot, percent
from models.training.learning_curve import LearningCurve
from models.training.linear import Trial
from models.training.metrics import Metrics, ReliabilityBin
from models.training.progress import EpochRecord

# Drawn with, and replaced by the page's own colours, which differ in its light and its dark scheme.
INK, SOFT, LINE, ACCENT, SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    SECOND: "var(--second)",
}
# A picture has no variables: this blue can be seen on both grounds.
MATRIX_COLOUR = (0.20, 0.55, 0.68)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fovea",
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.labelcolor": SOFT,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
# Inches, of 96 pixels on a page; two stand side by side on a wide one.
SIZE = (3.3, 2.5)


def learning_curves(history: Sequence[EpochRecord], best_epoch: int) -> list[Plot]:
    """Loss and accuracy over the epochs, in training and validation; the epoch that was kept is marked."""
    epochs = [record.epoch for record in history]
    panels = (
        ("Loss", [r.loss for r in history], [r.validation_loss for r in history]),
        ("Accuracy", [r.accuracy for r in history], [r.validation_accuracy for r in history]),
    )

    def panel(name: str, training: list[float], validation: list[float]) -> Plot:
        def draw(axes: Axes) -> None:
            axes.plot(epochs, training, color=SOFT, label="training")
            axes.plot(epochs, validation, color=ACCENT, label="validation")
            axes.axvline(best_epoch, color=SECOND, linewidth=1.2, linestyle=":", label="kept")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(xlabel="Epoch", ylabel=name)
            axes.legend()

        kept = validation[epochs.index(best_epoch)] if best_epoch in epochs else validation[-1]
        alt = (
            f"{name} over {len(epochs)} epochs: in validation {validation[0]:.3f} after the first and {kept:.3f} "
            f"after epoch {best_epoch}, which was kept; in training {training[-1]:.3f} after the last."
        )
        return _plot(draw, alt)

    return [panel(*values) for values in panels]


def l2_curves(trials: Sequence[Trial], chosen: Trial) -> list[Plot]:
    """The cross-validated loss and accuracy of the regression over the weight of its penalty."""

    def panel(name: str) -> Plot:
        def draw(axes: Axes) -> None:
            for augmented, colour, label in (
                (False, SOFT, "plain images"),
                (True, ACCENT, "with augmented views"),
            ):
                points = sorted((t.l2, getattr(t, name)) for t in trials if t.augmented == augmented)
                if points:
                    axes.semilogx(*zip(*points, strict=True), color=colour, marker="o", markersize=3, label=label)
            axes.axvline(chosen.l2, color=SECOND, linewidth=1.2, linestyle=":", label="chosen")
            axes.set(xlabel="Weight of the L2 penalty", ylabel=f"Cross-validated {name}")
            axes.legend()

        values = [getattr(trial, name) for trial in trials]
        alt = (
            f"Cross-validated {name} over the weight of the L2 penalty: {min(values):.3f} to {max(values):.3f}, "
            f"{getattr(chosen, name):.3f} at the chosen weight of {chosen.l2:.3g}."
        )
        return _plot(draw, alt)

    return [panel("loss"), panel("accuracy")]


def images_curve(curve: LearningCurve) -> Plot:
    """Accuracy over the images of a class, and where twice as many are expected to lead."""
    sizes = [point.images_per_class for point in curve.points]
    middle = [point.accuracy for point in curve.points]
    spread = [
        [m - min(point.accuracies) for point, m in zip(curve.points, middle, strict=True)],
        [max(point.accuracies) - m for point, m in zip(curve.points, middle, strict=True)],
    ]
    expected = min(middle[-1] + curve.gain, 1.0)

    def draw(axes: Axes) -> None:
        axes.errorbar(sizes, middle, yerr=spread, color=ACCENT, marker="o", markersize=3, elinewidth=1)
        axes.plot([sizes[-1], 2 * sizes[-1]], [middle[-1], expected], color=SECOND, ls=":", label="expected")
        axes.set_xscale("log", base=2)
        ticks = [*sizes, 2 * sizes[-1]]
        axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(xlabel="Images of a class", ylabel="Accuracy")
        axes.legend()

    measured = ", ".join(f"{percent(m)} with {size:.0f}" for size, m in zip(sizes, middle, strict=True))
    alt = f"Accuracy by images of a class: {measured}; {percent(expected)} expected with {2 * sizes[-1]:.0f}."
    return _plot(draw, alt)


def reliability_diagrams(metrics: Metrics, *, calibrated: bool) -> list[Plot]:
    """Accuracy against confidence as served, and before calibration where there was one."""
    panels = [("As served", metrics.reliability_curve, metrics.calibration_error)]
    if calibrated:
        before = metrics.reliability_curve_uncalibrated, metrics.calibration_error_uncalibrated
        panels = [("Before calibration", *before), ("After, as served", *panels[0][1:])]

    def panel(name: str, bins: Sequence[ReliabilityBin], error: float) -> Plot:
        def draw(axes: Axes) -> None:
            axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=":")
            sizes = [12 + 160 * b.count / metrics.images for b in bins]
            axes.scatter(
                [b.confidence for b in bins], [b.accuracy for b in bins], s=sizes, color=ACCENT, alpha=0.75, lw=0
            )
            axes.set(xlim=(0, 1.04), ylim=(0, 1.06), xlabel="Confidence", ylabel="Accuracy")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(PercentFormatter(1.0))
            axes.set_title(f"{name}: error {error:.3f}", loc="left")

        points = "; ".join(
            f"of {b.count} answers of {percent(b.confidence)} {percent(b.accuracy)} are right" for b in bins
        )
        return _plot(draw, f"Reliability diagram, {name.lower()}, calibration error {error:.3f}: {points}.")

    return [panel(*values) for values in panels]


def confusion_overview(metrics: Metrics) -> list[Plot]:
    """Rows are true classes, columns are answers, numbered from 1; shades are shares of the row."""
    counts = np.array(metrics.confusion_matrix)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    shades = np.zeros((*shares.shape, 4))
    shades[..., :3], shades[..., 3] = MATRIX_COLOUR, shares

    def draw(axes: Axes) -> None:
        edge = len(counts) + 0.5
        axes.imshow(shades, interpolation="nearest", extent=(0.5, edge, edge, 0.5))
        axes.set(xlabel="Answer", ylabel="Truth")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=3))

    alt = (
        f"Confusion matrix of {len(counts)} classes: {int(np.trace(counts))} of {int(counts.sum())} images lie on "
        "the diagonal; the most confused pairs are in the table below."
    )
    return [_plot(draw, alt, (4.4, 4.2))]


def _plot(draw: Callable[[Axes], None], alt: str, size: tuple[float, float] = SIZE) -> Plot:
    with _styled():
        # SVG counts points, of which an inch has 72, and a page's pixel is 1/96 of an inch.
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot(1, 1, 1))
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return Plot(_inlined(buffer.getvalue(), alt), alt)


def _inlined(svg: str, alt: str) -> str:
    """The root element, with the page's colours and font and a text for who does not see it."""
    svg = re.sub(r"^.*?(?=<svg)", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    text = html.escape(alt)
    svg = re.sub(r"<svg([^>]*)>", rf'<svg\1 role="img" aria-label="{text}"><title>{text}</title>', svg, count=1)
    svg = re.sub(r"font-family: [^;\"]*; ", "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    referred = set(re.findall(r"[\"(]#([\w-]+)[\")]", svg))
    return re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in referred else "", svg)


@contextmanager
def _styled() -> Iterator[None]:
    """Text stays text, so that the reader's fonts show any script; matplotlib's own would warn of gaps."""
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with mpl.rc_context(STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            yield
    finally:
        fonts.setLevel(level)
