"""A table as wide as its content, or as narrow as a terminal is: no word is broken, so that each can be copied."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from cli.wrapping import wrap_words

GAP = 2

Cell = str | Text


@dataclass(frozen=True)
class TextTable:
    """`columns` are the headings, all empty for a table without; those in `right` are set flush right.

    A cell that is a Text keeps its style.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    right: Collection[str] = ()

    def fits(self, width: int) -> bool:
        """Whether every row takes one line of so many characters."""
        return _total(self._natural()) <= width

    def lines(self, width: int | None) -> Iterator[Text]:
        """The lines for a terminal of that width, None for a file, which takes any.

        Where even the longest words do not fit beside each other, each row becomes a paragraph: of headings and
        cells, or, without headings, of the row with its last cell below. A word longer than the terminal is left
        whole to it.
        """
        natural = self._natural()
        widths = natural if width is None else _fitted(natural, self._least(), width)
        if widths is None:
            yield from (self._paragraphs if any(self.columns) else self._hanging)(width or 0)
            return
        if any(self.columns):
            yield from self._laid_out([Text(column, "bold") for column in self.columns], widths)
        for row in self.rows:
            yield from self._laid_out([_text(cell) for cell in row], widths)

    def without(self, names: Collection[str]) -> "TextTable":
        """The table without the columns of these headings."""
        kept = [i for i, column in enumerate(self.columns) if column not in names]
        return TextTable(
            [self.columns[i] for i in kept], [[row[i] for i in kept] for row in self.rows], self.right
        )

    def _natural(self) -> list[int]:
        """How wide each column is where nothing is wrapped."""
        return [max(map(_longest_line, cells)) for cells in self._by_column()]

    def _least(self) -> list[int]:
        """The longest word of each column."""
        return [max(map(_longest_word, cells)) for cells in self._by_column()]

    def _by_column(self) -> Iterator[list[str]]:
        for number, column in enumerate(self.columns):
            yield [column, *(_text(row[number]).plain for row in self.rows)]

    def _laid_out(self, cells: Sequence[Text], widths: Sequence[int]) -> Iterator[Text]:
        return _laid_out(cells, widths, [column in self.right for column in self.columns])

    def _paragraphs(self, width: int) -> Iterator[Text]:
        names = max(map(cell_len, self.columns))
        widths = [names, max(1, width - names - GAP)]
        for number, row in enumerate(self.rows):
            if number:
                yield Text()
            for column, cell in zip(self.columns, row, strict=True):
                if text := _text(cell):
                    yield from _laid_out([Text(column, "bold"), text], widths, (False, False))

    def _hanging(self, width: int) -> Iterator[Text]:
        """The last cell beside the others where its longest word has room there, else below them."""
        widths = self._natural()[:-1]
        room = width - _total(widths) - GAP
        for row in self.rows:
            *cells, last = map(_text, row)
            if _longest_word(last.plain) <= room:
                yield from self._laid_out([*cells, last], [*widths, room])
                continue
            yield from _laid_out(cells, widths, [False] * len(widths))
            yield from _laid_out([Text(), last], [GAP, width - 2 * GAP], [False, False])


def _laid_out(cells: Sequence[Text], widths: Sequence[int], right: Sequence[bool]) -> Iterator[Text]:
    """One row; as many lines as its tallest cell."""
    columns = [wrap_words(cell.plain, width) for cell, width in zip(cells, widths, strict=True)]
    for number in range(max(map(len, columns))):
        line = Text()
        for cell, lines, width, flush_right in zip(cells, columns, widths, right, strict=True):
            piece = lines[number] if number < len(lines) else ""
            blank = " " * (width - cell_len(piece))
            line.append(blank if flush_right else "")
            line.append(piece, cell.style)
            line.append(" " * GAP if flush_right else blank + " " * GAP)
        line.rstrip()
        yield line


def _fitted(natural: Sequence[int], least: Sequence[int], width: int) -> list[int] | None:
    """The widest columns made narrower, none below its longest word; None where that is not enough."""
    for limit in range(max(natural), 0, -1):
        widths = [min(most, max(word, limit)) for most, word in zip(natural, least, strict=True)]
        if _total(widths) <= width:
            return widths
    return None


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(0, len(widths) - 1)


def _longest_line(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _longest_word(text: str) -> int:
    return max((cell_len(word) for word in text.split()), default=0)


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)
