"""The version that the gateway writes into a card."""

import subprocess
import sys
from collections.abc import Callable

from support.cards import Reading

from models.card.version import PLACE, insert_version

Card = Callable[..., tuple[str, str]]


def test_number_and_aliases_stand_in_the_head_and_in_the_browsers_tab(card: Card) -> None:
    markdown, page = card()
    served = insert_version(page.encode(), "html", 12, ("production", "<i>")).decode()
    reading = Reading(served)
    assert reading.text.strip().startswith("bugs, version 12")
    assert [span.get("class") for span in reading.all("span")][:4] == ["badge", "badge", "badge", None]
    for badge in ("Version 12", "production", "<i>"):
        assert badge in reading.text
    assert not reading.all("i")
    assert PLACE not in served
    served = insert_version(markdown.encode(), "md", 12, ("production", "on_edge")).decode()
    assert served.startswith("# bugs\n\n**Version 12 (production, on_edge)**\n")


def test_the_file_alone_shows_no_place_where_it_would_stand(card: Card) -> None:
    _, page = card()
    assert "version" not in Reading(page).text.lower().split("how good it is")[0]


def test_a_label_that_looks_like_the_place_stays_a_label(card: Card) -> None:
    _, page = card((PLACE, "bee"))
    served = insert_version(page.encode(), "html", 1, ()).decode()
    assert Reading(served).text.count(PLACE) > 3


def test_a_card_of_an_earlier_release_is_served_as_it_was_written() -> None:
    old = b"# bugs: lenet5, 2 classes\n"
    assert insert_version(old, "md", 1, ("production",)) == old


def test_the_gateway_needs_no_template_and_no_array_for_it() -> None:
    code = (
        "import sys, models.card.version; "
        "print([m for m in ('numpy', 'PIL', 'jinja2', 'matplotlib', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_variants_that_came_later_stand_beside_the_number() -> None:
    page = f"<title>x</title>{PLACE}".encode()
    assert b'<span class="badge">also as int8, fp16</span>' in insert_version(
        page, "html", 1, (), ("int8", "fp16")
    )
    markdown = insert_version(PLACE.encode(), "md", 1, ("production",), ("int8",))
    assert markdown == b"**Version 1 (production), also as int8**"
