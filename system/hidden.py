"""Characters that a reader does not see: they turn a name round, forge a line, or make two names alike.

Hidden are control and format characters (Unicode's categories Cc and Cf: U+202E and the other marks of direction,
the byte order mark, tags), lone surrogates (Cs), separators of lines and paragraphs (Zl, Zp), and the letters that
are drawn as nothing. The two joiners are not: Persian, the scripts of India and many emoji are written with them.
"""

import unicodedata

_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
# The fillers of Hangul, whole and half as wide, and the Braille pattern without a dot.
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def hidden_character(text: str) -> str | None:
    """The first hidden character as it is written for people, such as `U+202E RIGHT-TO-LEFT OVERRIDE`."""
    if text.isascii() and text.isprintable():
        return None
    for character in text:
        if character in _BLANK_LETTERS or (
            unicodedata.category(character) in _CATEGORIES and character not in _JOINERS
        ):
            return f"U+{ord(character):04X} {unicodedata.name(character, 'control character')}"
    return None
