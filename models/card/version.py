"""The version of a card, which only the registry knows: the gateway writes it in while it serves the page.

A card is written before its version has a number and variants, and aliases move. So the file leaves a place empty,
which a browser does not show. Knows no template and no registry.
"""

import html
from collections.abc import Sequence
from typing import Literal

from models.card.escape import escape_markdown

CardFormat = Literal["html", "md"]

# Texts from strangers cannot forge it: both forms escape `<`.
PLACE = "<!-- version -->"


def insert_version(
    page: bytes, form: CardFormat, number: int, aliases: Sequence[str], variants: Sequence[str] = ()
) -> bytes:
    """The card, UTF-8, with the version's number and aliases in its head, and the variants that came since.

    An old one has no place for them.
    """
    also = f"also as {', '.join(variants)}" if variants else ""
    if form == "md":
        named = f"Version {number}" + (f" ({', '.join(aliases)})" if aliases else "")
        shown = escape_markdown(", ".join(filter(None, (named, also))))
        return page.replace(PLACE.encode(), f"**{shown}**".encode(), 1)
    badges = [f"Version {number}", *aliases, *filter(None, (also,))]
    shown = "".join(f'<span class="badge">{html.escape(badge)}</span>' for badge in badges)
    titled = page.replace(b"</title>", f", version {number}</title>".encode(), 1)
    return titled.replace(PLACE.encode(), shown.encode(), 1)
