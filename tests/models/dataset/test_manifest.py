import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.dataset.errors import LayoutUnclear
from models.dataset.manifest import ManifestLine, parse_manifest
from system.hidden import hidden_character


def rows(name, text, encoding="utf-8"):
    return parse_manifest(name, text.encode(encoding))[0]


def test_csv_rows_are_read():
    text = "file,label,split\n1.jpg,ant,train\nsub/2.jpg,bee,Validation\n"
    assert rows("manifest.csv", text) == [
        ManifestLine(2, "1.jpg", "ant", "train"),
        ManifestLine(3, "sub/2.jpg", "bee", "val"),
    ]


def test_json_lines_are_read():
    text = '{"file": "1.jpg", "label": "ant"}\n\n{"file": "2.jpg", "label": 7, "split": null, "by": "me"}\n'
    assert rows("manifest.jsonl", text) == [
        ManifestLine(1, "1.jpg", "ant", None),
        ManifestLine(3, "2.jpg", "7", None),
    ]


def test_what_excel_writes_is_read():
    text = 'File, Label\r\n"a, b.jpg",ant\r\n2.jpg,bee\r\n'
    assert [row.file for row in rows("labels.csv", text, "utf-8-sig")] == ["a, b.jpg", "2.jpg"]


def test_labels_lose_the_blanks_around_them_and_keep_those_inside():
    assert [row.label for row in rows("manifest.csv", "file,label\n1.jpg,  army ant \n")] == ["army ant"]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("manifest.csv", "", "names the columns ''"),
        ("manifest.csv", "file;label\n1.jpg;ant\n", "names the columns 'file;label'"),
        ("manifest.csv", "1.jpg,ant\n", "expected file,label"),
        ("manifest.csv", 'file,label\n"1.jpg,ant\n', "not well-formed CSV"),
        ("manifest.csv", "file,label\n" + "x" * 200_000 + ",ant\n", "not well-formed CSV"),
        ("manifest.csv", "file,label,split\n1.jpg,ant,train\n2.jpg,ant,\n", "1 of the 2 rows .* name no split"),
    ],
)
def test_a_manifest_that_cannot_be_read_says_why(name, text, why):
    with pytest.raises(LayoutUnclear, match=why):
        parse_manifest(name, text.encode())


def test_a_manifest_in_another_encoding_says_so():
    with pytest.raises(LayoutUnclear, match="not UTF-8 text at byte 11"):
        parse_manifest("manifest.csv", "file,label\né.jpg,ant".encode("latin-1"))


@pytest.mark.parametrize(
    ("name", "line", "why"),
    [
        ("manifest.csv", ",ant,train", "names no file"),
        ("manifest.csv", "1.jpg,,train", "has no label"),
        ("manifest.csv", "1.jpg", "has no label"),
        ("manifest.csv", "1.jpg,ant,train,more", "more columns"),
        ("manifest.csv", "1.jpg,ant,holdout", "in the split 'holdout'"),
        ("manifest.csv", "1.jpg,a\u202ent,train", "not seen, U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("manifest.csv", "1.jpg,a\x07nt,train", "not seen, U+0007"),
        ("manifest.csv", f"1.jpg,{'a' * 256},train", "longer than 255"),
        ("manifest.jsonl", '["1.jpg", "ant"]', "no JSON object"),
        ("manifest.jsonl", "{'file': 1}", "no JSON object"),
        ("manifest.jsonl", "[" * 100_000, "no JSON object"),
        ("manifest.jsonl", '{"file": 1, "label": "ant", "split": "train"}', "names no file"),
        ("manifest.jsonl", '{"file": "1.jpg", "label": true, "split": "train"}', "has no label"),
        ("manifest.jsonl", '{"file": "1.jpg", "label": "ant", "split": 3}', "in the split '3'"),
    ],
)
def test_a_bad_row_is_told_with_its_line_and_the_others_are_kept(name, line, why):
    good = "0.jpg,ant,train" if name.endswith("csv") else '{"file": "0.jpg", "label": "ant", "split": "train"}'
    head = "file,label,split\n" if name.endswith("csv") else "\n"
    kept, faults = parse_manifest(name, f"{head}{good}\n{line}\n".encode())
    assert [row.file for row in kept] == ["0.jpg"]
    ((fault),) = faults
    assert (fault.code, fault.file) == ("bad_row", f"{name} line 3")
    assert why in fault.reason


ODD_CELL = st.one_of(
    st.sampled_from(["1.jpg", " ant ", "e\u0301", "x" * 256]),
    st.sampled_from(["", " ", '"', "a,b", "\x00", "\u2028", "train", "Valid"]),
    st.text(max_size=8),
)
ODD_ROWS = st.lists(st.lists(ODD_CELL, max_size=4) | st.tuples(ODD_CELL, ODD_CELL), max_size=6)
ODD_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ODD_CELL),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["file", "label", "split"]), inner)
    ),
    max_leaves=6,
)


def check_what_was_read(name, content):
    """Whatever stands in it: clean rows, a fault with its line for each other one, or one error for all."""
    refusal = None
    try:
        kept, faults = parse_manifest(name, content)
    except LayoutUnclear as unclear:
        refusal = str(unclear)
    if refusal is not None:
        assert name in refusal
        return None
    for row in kept:
        assert row.file.strip() == row.file != ""
        assert row.label.strip() == row.label != ""
        assert hidden_character(row.label) is None
        assert len(row.label) <= 255
        assert row.split in (None, "train", "val", "test")
    assert len({row.split is None for row in kept}) <= 1
    assert all(fault.code == "bad_row" and fault.reason for fault in faults)
    lines = [row.line for row in kept] + [int(fault.file.removeprefix(f"{name} line ")) for fault in faults]
    assert len(lines) == len(set(lines))
    assert all(1 <= line <= content.count(b"\n") + content.count(b"\r") + 1 for line in lines)
    return kept, faults


@given(st.binary(max_size=200), st.sampled_from(["manifest.csv", "manifest.jsonl"]))
def test_any_bytes_are_read_or_refused_with_the_reason(content, name):
    check_what_was_read(name, b"file,label\n" + content)


@given(ODD_ROWS)
def test_any_cells_are_rows_or_faults(rows):
    written = io.StringIO(newline="")
    csv.writer(written).writerows([["file", "label", "split"], *rows])
    read = check_what_was_read("manifest.csv", written.getvalue().encode("utf-8", "replace"))
    if read is not None:
        assert len(read[0]) + len(read[1]) == sum(bool(row) for row in rows)


@given(st.lists(ODD_VALUES, max_size=6))
def test_any_values_of_json_lines_are_rows_or_faults(values):
    content = "\n".join(json.dumps(value) for value in values).encode()
    read = check_what_was_read("manifest.jsonl", content)
    if read is not None:
        assert len(read[0]) + len(read[1]) == len(values)
