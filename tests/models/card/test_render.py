"""A page's two forms say what was written, whatever it is."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.cards import Reading

from models.card.blocks import Bullets, CardPage, Details, Link, Numbered, Paragraph, Table, fact_table
from models.card.render import to_html, to_markdown
from models.card.version import PLACE

TEXTS = ["a|b", "*x*", "[l](u)", "<b>", "# no", "a_b_c", "_x_", "&amp;", PLACE]


def page_of(text: str) -> CardPage:
    page = CardPage(text, text, [(text, text)])
    page.section(
        text, Table([text], [[text]]), Bullets([text]), Numbered([text]), Details(text, [Paragraph(text)])
    )
    page.section("last", Paragraph(text))
    return page


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_says_what_was_written(text: str) -> None:
    lines = to_markdown(page_of(text)).splitlines()
    assert re.sub(r"\\(.)", r"\1", lines[-1]) == text
    assert len([line for line in lines if re.sub(r"\\(.)", r"\1", line) == f"| {text} |"]) == 2
    assert lines.count(PLACE) == 1


@pytest.mark.parametrize("text", TEXTS)
def test_html_says_what_was_written(text: str) -> None:
    page = to_html(page_of(text))
    reading = Reading(page)
    assert not reading.all("b")
    assert reading.text.count(text) == 13
    assert page.count(PLACE) == 1


def test_only_an_https_address_becomes_a_link() -> None:
    page = CardPage("t", "s", [])
    page.section(
        "s", fact_table({"good": Link("https://example.org/a?b=<c>"), "bad": Link("javascript:alert(1)")})
    )
    assert [link["href"] for link in Reading(to_html(page)).all("a")] == ["https://example.org/a?b=<c>"]
    assert "javascript:alert(1)" in to_markdown(page)
    assert "<https:" not in to_markdown(page)
    page.section("s", fact_table({"good": Link("https://example.org/a")}))
    assert "| good | <https://example.org/a> |" in to_markdown(page)


def test_what_is_installed_holds_the_templates_and_the_digits(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        needed = {"models/card/card.html.jinja", "models/card/card.css", "models/training/digits.npz"}
        assert needed <= set(archive.namelist())
