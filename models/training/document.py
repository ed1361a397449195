"""A page in two forms: Markdown for terminals and repositories, one HTML file for browsers. Knows no models.

Every text in it may come from a stranger's file names: both forms escape it.
"""

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
td, th { border-bottom: 1px solid var(--line); padding: .2rem .9rem .2rem 0; text-align: left; }
td { overflow-wrap: anywhere; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; background: white; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
.pictures figure { margin: 0; } .pictures img { width: 100%; image-rendering: auto; }
figcaption { font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Plot:
    """`svg` is trusted; `caption` stands for it where pictures cannot be shown."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """uint8 [height, width, 3]."""

    pixels: NDArray[np.uint8]
    caption: str


@dataclass(frozen=True)
class Pictures:
    pictures: Sequence[Picture]


Block = Paragraph | Table | Plot | Pictures


@dataclass
class Document:
    title: str
    sections: list[tuple[str, list[Block]]] = field(default_factory=list)

    def section(self, heading: str, *blocks: Block) -> None:
        self.sections.append((heading, list(blocks)))

    def markdown(self) -> str:
        parts = [f"# {_plain(self.title)}"]
        for heading, blocks in self.sections:
            parts += [f"## {_plain(heading)}", *(_markdown(block) for block in blocks)]
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        body = [f"<h1>{html.escape(self.title)}</h1>"]
        for heading, blocks in self.sections:
            body += [f"<h2>{html.escape(heading)}</h2>", *(_html(block) for block in blocks)]
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
            + "\n".join(body)
            + "\n</body>\n</html>\n"
        )


def _markdown(block: Block) -> str:
    match block:
        case Paragraph(text):
            return _plain(text)
        case Table(header, rows):
            return "\n".join([_row(header), "|" + " --- |" * len(header), *(_row(row) for row in rows)])
        case Plot(_, caption):
            return f"*{_plain(caption)} The picture is in card.html.*"
        case Pictures(pictures):
            return "\n".join(f"- {_plain(picture.caption)}" for picture in pictures)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text that no Markdown reader takes for markup, on one line."""
    return re.sub(r"([\\`*\[\]<>|#~$]|\b_|_\b)", r"\\\1", " ".join(text.split()))


def _html(block: Block) -> str:
    match block:
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Table(header, rows):
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
            body = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
            )
            return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        case Plot(svg, caption):
            return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"
        case Pictures(pictures):
            return '<div class="pictures">' + "".join(_figure(picture) for picture in pictures) + "</div>"


def _figure(picture: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).resize((112, 112), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    caption = html.escape(picture.caption)
    return f'<figure><img alt="" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
