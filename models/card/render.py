"""A page in two forms: Markdown for terminals and repositories, one HTML file for browsers.

Every text in it may come from a stranger's file names: both forms escape it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import jinja2

from models.card.blocks import (
    Block,
    Bullets,
    CardPage,
    Caution,
    Cell,
    Details,
    ImageGrid,
    Link,
    Matrix,
    Numbered,
    Paragraph,
    Picture,
    Plots,
    Table,
)
from models.card.escape import escape_markdown
from models.card.version import PLACE

MARKDOWN, HTML = "card.md", "card.html"
# A wider matrix has no place between Markdown's bars.
WIDEST_MATRIX = 12


def write_page(folder: Path, page: CardPage) -> None:
    """Writes `card.md` and `card.html`."""
    (folder / MARKDOWN).write_text(to_markdown(page), encoding="utf-8")
    (folder / HTML).write_text(to_html(page), encoding="utf-8")


def to_html(page: CardPage) -> str:
    """A file that loads nothing else, with an empty place for the version."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("card.html.jinja").render(page=page, place=PLACE if page.is_of_version else "")


def to_markdown(page: CardPage) -> str:
    """The same without plots and pictures, which their captions stand for."""
    place = [PLACE] if page.is_of_version else []
    parts = [f"# {escape_markdown(page.title)}", *place, escape_markdown(page.subtitle)]
    parts.append("\n".join(f"- {escape_markdown(f'{name}: {value}')}" for name, value in page.facts))
    if headline := page.headline:
        parts.append(f"**{escape_markdown(f'{headline.value} {headline.name}')}**")
        parts.append(escape_markdown(headline.explanation))
    for section in page.sections:
        parts += [f"## {escape_markdown(section.heading)}", *map(_markdown, section.blocks)]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Paragraph(text):
            return escape_markdown(text)
        case Caution(text):
            return f"**{escape_markdown(text)}**"
        case Bullets(texts):
            return "\n".join(f"- {escape_markdown(text)}" for text in texts)
        case Numbered(texts):
            return " · ".join(escape_markdown(f"{i} {text}") for i, text in enumerate(texts))
        case Table(header, rows, numbers_from):
            return _table(header, rows, numbers_from)
        case Matrix(labels) if len(labels) > WIDEST_MATRIX:
            return "*The matrix is in card.html.*"
        case Matrix(labels, counts):
            counted = [[label, *map(str, row)] for label, row in zip(labels, counts, strict=True)]
            return _table(["truth / answer", *labels], counted, 1)
        case Plots(_, caption):
            return f"*{escape_markdown(caption)} The picture is in card.html.*"
        case Picture(caption=caption):
            return f"*{escape_markdown(caption)} The picture is in card.html.*"
        case ImageGrid(pictures):
            return "\n".join(f"- {escape_markdown(picture.alt)}" for picture in pictures)
        case Details(summary, blocks):
            inner = "\n\n".join(map(_markdown, blocks))
            return f"<details>\n<summary>{escape_markdown(summary)}</summary>\n\n{inner}\n\n</details>"


def _table(header: Sequence[str], rows: Sequence[Sequence[Cell]], numbers_from: int) -> str:
    rule = "|".join(" ---: " if i >= numbers_from else " --- " for i in range(len(header)))
    return "\n".join([_row(header), f"|{rule}|", *map(_row, rows)])


def _row(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link) and cell.is_safe and not re.search(r"[\s<>|]", cell.url):
        return f"<{cell.url}>"
    return escape_markdown(str(cell))
