"""Words into lines of a terminal's width. No word is ever broken: a longer one has a line of its own."""

from collections.abc import Sequence

from rich.cells import cell_len


def wrap_words(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters, broken at spaces; its own lines stay."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if line and cell_len(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def wrap_phrases(phrases: Sequence[str], first_width: int, width: int) -> list[str]:
    """Phrases with commas between, none of them broken. The first line has its own width, and may stay empty."""
    lines = [""]
    for number, phrase in enumerate(phrases, 1):
        ended = phrase + ("," if number < len(phrases) else "")
        longer = f"{lines[-1]} {ended}".strip()
        if cell_len(longer) <= (first_width if len(lines) == 1 else width):
            lines[-1] = longer
        else:
            lines.append(ended)
    return lines
