"""What a page is made of: a headline, paragraphs, tables, plots and pictures. Knows no form and no models."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Pixels of a picture's longer side: sharp on fine screens at the width at which it is shown.
PICTURE_SIDE = 240
# Letters of class names that fit above a matrix; where there are more, the columns bear the rows' numbers.
COLUMN_LETTERS = 72


@dataclass(frozen=True)
class Paragraph:
    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Caution:
    """A paragraph that a reader must not miss."""

    kind: ClassVar[str] = "caution"
    text: str


@dataclass(frozen=True)
class Bullets:
    kind: ClassVar[str] = "bullets"
    texts: Sequence[str]


@dataclass(frozen=True)
class Numbered:
    """Texts by their numbers, from 0, in as many columns as there is room for."""

    kind: ClassVar[str] = "numbered"
    texts: Sequence[str]


@dataclass(frozen=True)
class Link:
    """A table's cell that leads to another page; anything but https stays text."""

    url: str

    @property
    def is_safe(self) -> bool:
        return self.url.startswith("https://")

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Share:
    """A table's cell with a bar below its text, as long as `share`, 0 ... 1, of the cell."""

    share: float
    text: str

    def __str__(self) -> str:
        return self.text


Cell = str | Link | Share


@dataclass(frozen=True)
class Table:
    """Columns from `numbers_from` on are numbers; an empty header is left out; `dense` is for many short cells."""

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers_from: int = 1_000
    dense: bool = False

    @property
    def has_header(self) -> bool:
        return any(self.header)


def fact_table(values: Mapping[str, Cell]) -> Table:
    """Names and what they are, as a table without a header."""
    return Table(["", ""], [[name, value] for name, value in values.items()])


@dataclass(frozen=True)
class Matrix:
    """Counts of true classes (rows) by answers (columns); `numbers` are those of the classes, from 1."""

    kind: ClassVar[str] = "matrix"
    labels: Sequence[str]
    counts: NDArray[np.int64]
    numbers: Sequence[int]

    @property
    def names_columns(self) -> bool:
        return sum(max(len(label), 3) for label in self.labels) <= COLUMN_LETTERS

    @property
    def shares(self) -> NDArray[np.float64]:
        """Of each row."""
        found: NDArray[np.float64] = self.counts / self.counts.sum(axis=1, keepdims=True).clip(min=1)
        return found


@dataclass(frozen=True)
class Plot:
    """`svg` is trusted and names its own alternative text; `alt` is the same."""

    svg: str
    alt: str


@dataclass(frozen=True)
class Plots:
    """Plots side by side where there is room; `caption` stands for them in Markdown."""

    kind: ClassVar[str] = "plots"
    plots: Sequence[Plot]
    caption: str


@dataclass(frozen=True)
class CaptionedImage:
    """Pixels uint8 [height, width, 3] under `title`, `detail` and `name`."""

    pixels: NDArray[np.uint8]
    title: str
    detail: str
    name: str

    @property
    def alt(self) -> str:
        return f"{self.name}: {self.title}, {self.detail}"

    @property
    def is_tiny(self) -> bool:
        return bool(max(self.pixels.shape[:2]) < 64)

    @property
    def data_url(self) -> str:
        image = Image.fromarray(self.pixels)
        image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True)
class ImageGrid:
    kind: ClassVar[str] = "pictures"
    pictures: Sequence[CaptionedImage]


@dataclass(frozen=True)
class Picture:
    """An encoded picture as it is, in its own size where there is room; in Markdown the caption stands for it."""

    kind: ClassVar[str] = "picture"
    content: bytes
    media_type: str
    alt: str
    caption: str

    @property
    def data_url(self) -> str:
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Details:
    """Blocks that are folded until somebody asks for them."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: Sequence["Block"]


Block = Paragraph | Caution | Bullets | Numbered | Table | Matrix | Plots | ImageGrid | Picture | Details


@dataclass(frozen=True)
class Scale:
    """An interval on a scale from 0 to 1, with the estimate and something to compare it with."""

    low: float
    estimate: float
    high: float
    baseline: float
    baseline_name: str

    @property
    def legend(self) -> str:
        return f"band: 95 % interval · tick: {self.baseline_name}, {percent(self.baseline)}"

    @property
    def alt(self) -> str:
        return (
            f"A scale from 0 to 100 %: {percent(self.estimate)}, the interval from {percent(self.low)} to "
            f"{percent(self.high)}, and {self.baseline_name} at {percent(self.baseline)}."
        )


@dataclass(frozen=True)
class Headline:
    """The one number of the page, large; `others` are names and values beside it. `own` is False for hearsay."""

    value: str
    name: str
    explanation: str
    others: Sequence[tuple[str, str]] = ()
    scale: Scale | None = None
    own: bool = True


@dataclass(frozen=True)
class Section:
    heading: str
    blocks: Sequence[Block]


@dataclass
class CardPage:
    """`subtitle` says what it is in one line, `facts` are shown under it: names and values. `is_of_version` where
    it has a place for the version's number."""

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    headline: Headline | None = None
    is_of_version: bool = True
    sections: list[Section] = field(default_factory=list)

    def section(self, heading: str, *blocks: Block) -> None:
        self.sections.append(Section(heading, blocks))


def percent(share: float | None) -> str:
    """`0.9412` is `94.1 %`; a dash where there is nothing to tell."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f} %"
