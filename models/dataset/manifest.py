"""A list of pictures with their labels, as CSV or JSON Lines: `file,label[,split]`. Opens no picture."""

import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.dataset.errors import LayoutUnclear
from models.dataset.names import shown
from models.dataset.report import Fault, FaultCode
from models.dataset.sample import SplitName
from system.hidden import hidden_character

MANIFEST_NAMES = ("manifest.csv", "manifest.jsonl", "labels.csv")
SPLIT_OF_NAME: Mapping[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
LONGEST_LABEL = 255


@dataclass(frozen=True)
class ManifestLine:
    """One line: `file` as it stands there, relative to the manifest."""

    line: int
    file: str
    label: str
    split: SplitName | None


def is_manifest(name: str) -> bool:
    return name.casefold() in MANIFEST_NAMES


def parse_manifest(name: str, content: bytes) -> tuple[list[ManifestLine], list[Fault]]:
    """The rows that can be used, and a fault for each that cannot.

    Raises LayoutUnclear where the whole manifest cannot be read, or where only some of its rows name a split.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise LayoutUnclear(f"{name} is not UTF-8 text at byte {exc.start}: save it as UTF-8") from exc
    records = _json_records(text) if name.casefold().endswith(".jsonl") else _csv_records(name, text)
    rows: list[ManifestLine] = []
    faults: list[Fault] = []
    for line, record in records:
        try:
            rows.append(_row(line, record))
        except ValueError as exc:
            faults.append(Fault(FaultCode.BAD_ROW, str(exc), file=f"{name} line {line}"))
    unsplit = sum(row.split is None for row in rows)
    if 0 < unsplit < len(rows):
        raise LayoutUnclear(
            f"{unsplit} of the {len(rows)} rows of {name} name no split: name one in every row or in none"
        )
    return rows, faults


def _csv_records(name: str, text: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        reader.fieldnames = [column.strip().casefold() for column in reader.fieldnames or ()]
        if not {"file", "label"} <= set(reader.fieldnames):
            raise LayoutUnclear(
                f"the first line of {name} names the columns {shown(','.join(reader.fieldnames))}; expected "
                "file,label or file,label,split, separated by commas"
            )
        for record in reader:
            yield reader.line_num, record
    except csv.Error as exc:
        raise LayoutUnclear(f"{name} is not well-formed CSV at line {reader.line_num}: {exc}") from exc


def _json_records(text: str) -> Iterator[tuple[int, Any]]:
    # Not splitlines(): JSON strings may hold the line separators of Unicode.
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            try:
                yield line, json.loads(content)
            except (ValueError, RecursionError):
                yield line, None


def _row(line: int, record: Any) -> ManifestLine:
    if not isinstance(record, dict):
        raise ValueError('this line is no JSON object; expected {"file": ..., "label": ...}')
    if None in record:
        raise ValueError(
            "more columns than the first line names: put a file or label that holds a comma in quotes"
        )
    file, label, split = record.get("file"), record.get("label"), record.get("split")
    if not isinstance(file, str) or not file.strip():
        raise ValueError("it names no file")
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"{shown(file)} has no label")
    return ManifestLine(line, file.strip(), tidy_label(label), _split(file, split))


def tidy_label(label: str) -> str:
    """Without blanks around it, in Unicode's composed form. Raises ValueError for what is no label."""
    label = unicodedata.normalize("NFC", label.strip())
    if not label:
        raise ValueError("the label is empty")
    if len(label) > LONGEST_LABEL:
        raise ValueError(f"the label {shown(label)} is longer than {LONGEST_LABEL} characters")
    if hidden := hidden_character(label):
        raise ValueError(f"the label {shown(label)} holds a character that is not seen, {hidden}")
    return label


def _split(file: str, value: Any) -> SplitName | None:
    if value is None or value == "":
        return None
    split = SPLIT_OF_NAME.get(value.strip().casefold()) if isinstance(value, str) else None
    if split is None:
        raise ValueError(f"{shown(file)} is in the split {shown(str(value))}; expected train, val or test")
    return split
