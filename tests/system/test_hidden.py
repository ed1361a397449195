"""Names in every script are taken, and nothing that turns them round or hides in them."""

import pytest

from storage.errors import InvalidName
from storage.text import check_title
from system.hidden import hidden_character

HONEST = (
    "ants",
    "Ameisen – ants",
    "муравьи",
    "蟻　蜂",
    "نمل",
    "می\u200cخواهم",
    "क्\u200dष",
    "👩\u200d🔬",
    "❤\ufe0f",
    "a\u00a0b",
    "",
)
HIDING = {
    "photo\u202egpj.exe": "U+202E RIGHT-TO-LEFT OVERRIDE",
    "a\u2066b": "U+2066 LEFT-TO-RIGHT ISOLATE",
    "ant\u200b": "U+200B ZERO WIDTH SPACE",
    "\ufeffant": "U+FEFF ZERO WIDTH NO-BREAK SPACE",
    "so\u00adft": "U+00AD SOFT HYPHEN",
    "ant\U000e0041": "U+E0041 TAG LATIN CAPITAL LETTER A",
    "a\nb": "U+000A control character",
    "a\x1b[2J": "U+001B control character",
    "a\u2028b": "U+2028 LINE SEPARATOR",
    "\ud800": "U+D800 control character",
    "\u3164": "U+3164 HANGUL FILLER",
}


@pytest.mark.parametrize("text", HONEST)
def test_what_people_write_is_seen(text: str) -> None:
    assert hidden_character(text) is None


@pytest.mark.parametrize(("text", "found"), HIDING.items(), ids=HIDING.values())
def test_what_hides_is_named_and_no_title(text: str, found: str) -> None:
    assert hidden_character(text) == found
    with pytest.raises(InvalidName):
        check_title(text)
