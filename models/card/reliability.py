"""The reliability diagram as SVG, without a library: a worker that serves draws it as well."""

import html
from collections.abc import Sequence

from models.card.blocks import Plot, percent
from models.training.metrics import ReliabilityBin

# Of the page's pixels: the square of the axes, and the room for its words.
SIDE, LEFT, BOTTOM, TOP, RIGHT = 210, 52, 42, 24, 14
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def reliability_diagram(bins: Sequence[ReliabilityBin], error: float, title: str) -> Plot:
    """Accuracy against confidence; the areas of the dots are counts. `error` is the expected calibration error."""
    images = sum(b.count for b in bins)
    points = "; ".join(
        f"of {b.count} answers of {percent(b.confidence)} {percent(b.accuracy)} are right" for b in bins
    )
    alt = f"Reliability diagram, {title}, calibration error {error:.3f}: {points}."
    width, height = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
    text = html.escape(alt)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{text}">',
        f"<title>{text}</title>",
        f'<text x="{LEFT}" y="14" font-size="12.5" fill="var(--ink)">{html.escape(title)}: '
        f"error {error:.3f}</text>",
        _line(0, 0, 1, 0, "var(--line)"),
        _line(0, 0, 0, 1, "var(--line)"),
        _line(0, 0, 1, 1, "var(--soft)", dashed=True),
        *(_tick(value) for value in TICKS),
        _words(LEFT + SIDE / 2, height - 4, "Confidence"),
        f'<g transform="rotate(-90 12 {TOP + SIDE / 2:.1f})">{_words(12, TOP + SIDE / 2, "Accuracy")}</g>',
        *(
            f'<circle cx="{_x(b.confidence):.1f}" cy="{_y(b.accuracy):.1f}" r="{_radius(b.count / images):.1f}" '
            'fill="var(--accent)" fill-opacity=".75"/>'
            for b in bins
        ),
        "</svg>",
    ]
    return Plot("".join(parts), alt)


def _x(share: float) -> float:
    return LEFT + SIDE * share


def _y(share: float) -> float:
    return TOP + SIDE * (1 - share)


def _radius(share: float) -> float:
    return float(2.5 + 9 * share**0.5)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> str:
    ends = f'x1="{_x(x1):.1f}" y1="{_y(y1):.1f}" x2="{_x(x2):.1f}" y2="{_y(y2):.1f}"'
    dashes = ' stroke-dasharray="2 3"' if dashed else ""
    return f'<line {ends} stroke="{colour}"{dashes}/>'


def _tick(share: float) -> str:
    said = f"{100 * share:.0f}%"
    return _words(_x(share), TOP + SIDE + 16, said) + _words(LEFT - 7, _y(share) + 4, said, anchor="end")


def _words(x: float, y: float, text: str, *, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" fill="var(--soft)">{text}</text>'
