"""The documentation as text to check: pages, headings, links, tables and code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# What is written down once and then stays as it was: names in it may be gone.
HISTORY = ("CHANGELOG.md", "docs/decisions/")


@dataclass(frozen=True)
class Page:
    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.DOTALL | re.MULTILINE)

    @property
    def is_history(self) -> bool:
        return self.name.startswith(HISTORY)

    def links(self) -> list[str]:
        """Targets of its links that are no addresses of other hosts."""
        found = re.findall(r"\]\(([^)\s]+)\)", without_code(self.prose))
        return [target for target in found if not re.match(r"\w+:", target)]

    def anchors(self) -> set[str]:
        """What can follow `#`, by GitHub's rule: repeated headings are numbered."""
        seen: dict[str, int] = {}
        anchors = set()
        for heading in re.findall(r"^#{1,6} (.+?)\s*$", self.prose, re.MULTILINE):
            slug = re.sub(r"[^\w\- ]", "", _as_read(heading).lower()).replace(" ", "-")
            anchors.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
            seen[slug] = seen.get(slug, 0) + 1
        return anchors

    def table(self, *header: str) -> list[tuple[str, ...]]:
        """The rows of every table with that header."""
        rows: list[tuple[str, ...]] = []
        inside = False
        for line in self.prose.splitlines():
            cells = _cells(line)
            if cells == header:
                inside = True
            elif not cells:
                inside = False
            elif inside and set("".join(cells)) - set("-: "):
                rows.append(cells)
        return rows

    def code(self) -> list[str]:
        """Everything between single backticks, outside of fenced blocks; line breaks read as blanks."""
        return [" ".join(code.split()) for code in in_backticks(self.prose)]

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of a language."""
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)


def pages() -> Iterator[Page]:
    """Every page, as version control would have it."""
    for folder in ("", "docs", "docs/decisions", "docker/kubernetes"):
        for path in sorted((ROOT / folder).glob("*.md")):
            yield Page(path.relative_to(ROOT).as_posix())


def in_backticks(text: str) -> list[str]:
    return re.findall(r"(?<!`)`([^`]+)`(?!`)", text)


def without_code(text: str) -> str:
    return re.sub(r"(?<!`)`[^`]+`(?!`)", "", text)


def _cells(line: str) -> tuple[str, ...]:
    """Of a table's row; nothing for another line. A bar in code does not part cells."""
    if not line.startswith("|"):
        return ()
    parts = re.split(r"\|(?=(?:[^`]*`[^`]*`)*[^`]*$)", line.strip().strip("|"))
    return tuple(part.strip() for part in parts)


def _as_read(heading: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).replace("`", "")
