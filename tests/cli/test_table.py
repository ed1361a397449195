"""Tables for terminals: nothing of a cell is lost, and no word of it is broken, however narrow they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from cli.table import TextTable
from cli.wrapping import wrap_phrases, wrap_words

JOBS = TextTable(
    ("job", "kind", "state"),
    [
        ("job_01M892WA9F3ET9CYVWJ89RNVT9", "finetune", "training, epoch 3 of 20"),
        ("job_01M892TW7EDVTRQ2E3KGANKF2J", "publish", "succeeded"),
    ],
)
WORDS = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=12)
CELLS = st.lists(WORDS, max_size=4).map(" ".join)


def lines(table: TextTable, width: int | None) -> list[str]:
    return [line.plain for line in table.lines(width)]


def test_with_room_a_row_is_a_line() -> None:
    expected = [
        "job                             kind      state",
        "job_01M892WA9F3ET9CYVWJ89RNVT9  finetune  training, epoch 3 of 20",
        "job_01M892TW7EDVTRQ2E3KGANKF2J  publish   succeeded",
    ]
    assert lines(JOBS, None) == lines(JOBS, 65) == expected
    assert JOBS.fits(65)
    assert not JOBS.fits(64)


def test_the_widest_column_that_can_is_wrapped_between_words() -> None:
    assert lines(JOBS, 54)[1:3] == [
        "job_01M892WA9F3ET9CYVWJ89RNVT9  finetune  training,",
        "                                          epoch 3 of",
    ]


def test_where_the_words_do_not_fit_beside_each_other_a_row_is_a_paragraph() -> None:
    assert lines(JOBS, 40)[:4] == [
        "job    job_01M892WA9F3ET9CYVWJ89RNVT9",
        "kind   finetune",
        "state  training, epoch 3 of 20",
        "",
    ]


def test_without_headings_the_last_cell_goes_below_where_it_has_no_room() -> None:
    facts = TextTable(("", ""), [("dataset", "ds_01M892WA9F3ET9CYVWJ89RNVT9"), ("images", "12 train, 4 val")])
    assert lines(facts, 30) == ["dataset", "    ds_01M892WA9F3ET9CYVWJ89RNVT9", "images   12 train, 4 val"]


def test_numbers_are_set_flush_right_and_columns_can_be_left_out() -> None:
    table = TextTable(("name", "size", "year"), [("a", "7", "1998"), ("b", "1200", "2012")], right=("size",))
    assert lines(table, None)[1:] == ["a        7  1998", "b     1200  2012"]
    assert lines(table.without(["size"]), None)[1:] == ["a     1998", "b     2012"]


def test_a_cells_style_and_lines_of_its_own_are_kept() -> None:
    table = TextTable(("", ""), [(Text("PROBLEM", "bold red"), "no disk\n-> free some")])
    first, second = table.lines(80)
    assert (first.plain, second.plain) == ("PROBLEM  no disk", "         -> free some")
    assert "bold red" in {str(span.style) for span in first.spans}


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4), st.integers(1, 90), st.booleans())
def test_every_word_is_whole_at_every_width(rows: list[tuple[str, ...]], width: int, headed: bool) -> None:
    table = TextTable(("first", "second", "third") if headed else ("", "", ""), rows)
    shown = [line.split() for line in lines(table, width)]
    for row in rows:
        for word in " ".join(row).split():
            assert any(word in line for line in shown), (word, shown)


@given(st.lists(WORDS, min_size=1, max_size=8).map(" ".join), st.integers(1, 40))
def test_a_line_is_longer_than_the_width_only_where_a_word_is(text: str, width: int) -> None:
    for line in wrap_words(text, width):
        assert len(line) <= width or " " not in line or not line.isascii()
    assert " ".join(wrap_words(text, width)).split() == text.split()


@pytest.mark.parametrize(
    ("first", "width", "expected"),
    [
        (80, 80, ["training, epoch 3 of 20, 1:05 left"]),
        (24, 80, ["training, epoch 3 of 20,", "1:05 left"]),
        (0, 80, ["", "training, epoch 3 of 20, 1:05 left"]),
        (0, 9, ["", "training,", "epoch 3 of 20,", "1:05 left"]),
    ],
)
def test_phrases_are_never_broken(first: int, width: int, expected: list[str]) -> None:
    assert wrap_phrases(["training", "epoch 3 of 20", "1:05 left"], first, width) == expected
