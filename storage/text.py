"""Text that clients send, compared with columns. Whatever it is, rows match or do not; nothing fails."""

from typing import Any

from sqlalchemy import ColumnElement, SQLColumnExpression, false, or_

from storage.errors import InvalidName
from system.hidden import hidden_character

LONGEST_DESCRIPTION = 2000
_LONGEST_TITLE = 200
_BREAKS = str.maketrans("", "", "\n\r\t")


def is_text(value: str) -> bool:
    """Whether a database takes the text: PostgreSQL knows no NUL, and neither encodes a lone surrogate."""
    return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def equals(column: SQLColumnExpression[Any], value: str) -> ColumnElement[bool]:
    return column == value if is_text(value) else false()


def contains(search: str, *columns: SQLColumnExpression[Any]) -> ColumnElement[bool]:
    """Whether any of the columns contains the text, whatever its case; `%` and `_` mean themselves."""
    if not is_text(search):
        return false()
    return or_(*(column.icontains(search, autoescape=True) for column in columns))


def check_title(title: str) -> None:
    """Raises InvalidName for what cannot name a dataset or a key to people."""
    hidden = hidden_character(title)
    if hidden or not title.strip() or len(title) > _LONGEST_TITLE:
        raise InvalidName(
            f"{title[:100]!r} is no name. Expected up to {_LONGEST_TITLE} characters, not only spaces, and none "
            f"that is not seen{f' ({hidden})' if hidden else ''}."
        )


def description_fault(text: str) -> str | None:
    """What is wrong with a description, of which breaks of lines are a part; None where nothing is."""
    if len(text) > LONGEST_DESCRIPTION:
        return f"{len(text)} characters are too many; expected at most {LONGEST_DESCRIPTION}"
    hidden = hidden_character(text.translate(_BREAKS))
    return f"it has a character that is not seen ({hidden})" if hidden else None


def check_description(text: str) -> None:
    """Raises InvalidName for what cannot describe a model to people."""
    if fault := description_fault(text):
        raise InvalidName(f"{text[:100]!r} is no description: {fault}.")
