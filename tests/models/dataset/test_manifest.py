import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.dataset.errors import LayoutUnclear
from models.dataset.manifest import Row, parse_manifest


def rows(name, text, encoding="utf-8"):
    return parse_manifest(name, text.encode(encoding))[0]


def test_csv_rows_are_read():
    text = "file,label,split\n1.jpg,ant,train\nsub/2.jpg,bee,Validation\n"
    assert rows("manifest.csv", text) == [Row(2, "1.jpg", "ant", "train"), Row(3, "sub/2.jpg", "bee", "val")]


def test_json_lines_are_read():
    text = '{"file": "1.jpg", "label": "ant"}\n\n{"file": "2.jpg", "label": 7, "split": null, "by": "me"}\n'
    assert rows("manifest.jsonl", text) == [Row(1, "1.jpg", "ant", None), Row(3, "2.jpg", "7", None)]


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
        ("manifest.csv", "1.jpg,a\x07nt,train", "control characters"),
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


@given(st.binary(max_size=200), st.sampled_from(["manifest.csv", "manifest.jsonl"]))
def test_no_bytes_break_the_reader(content, name):
    try:
        parse_manifest(name, b"file,label\n" + content)
    except LayoutUnclear:
        return
