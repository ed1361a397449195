"""The changes to a dataset that a user asks for, as options or as a file of them. Knows nothing of its images."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

SPLITS = ("train", "val", "test")
YES = frozenset({"1", "true", "yes", "x"})
COLUMNS = "image and label, split or remove"


@dataclass
class Changes:
    """By image, as its user names it."""

    relabel: dict[str, str] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)
    move: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, image: str, label: str = "", split: str = "", *, remove: bool = False) -> None:
        """Raises BadParameter where an image is given two labels or nothing is to be done with it."""
        if not image or not (label or split or remove):
            raise typer.BadParameter(f"{where}: expected {COLUMNS}, got image {image!r} and nothing to do with it")
        if split and split not in SPLITS:
            raise typer.BadParameter(f"{where}: {image} is to be moved to {split!r}; expected train, val or test")
        for changes, value in ((self.relabel, label), (self.move, split)):
            if value and changes.setdefault(image, value) != value:
                raise typer.BadParameter(f"{where}: {image} is given {changes[image]!r} and {value!r}; keep one")
        if remove:
            self.remove.append(image)

    def __bool__(self) -> bool:
        return bool(self.relabel or self.remove or self.move)


def changes_of(relabel: Sequence[str], remove: Sequence[str], move: Sequence[str], file: Path | None) -> Changes:
    """Raises BadParameter."""
    changes = Changes()
    for text in relabel:
        image, label = _pair(text, "--relabel", "LABEL")
        changes.add("--relabel", image, label)
    for text in move:
        image, split = _pair(text, "--move", "SPLIT")
        changes.add("--move", image, split=split)
    for image in remove:
        changes.add("--remove", image, remove=True)
    for where, row in _rows(file) if file else ():
        values = {name: str(row.get(name) or "").strip() for name in ("image", "label", "split", "remove")}
        removed = values.pop("remove").casefold() in YES
        changes.add(where, **values, remove=removed)
    return changes


def _pair(text: str, option: str, second: str) -> tuple[str, str]:
    image, equals, value = text.rpartition("=")
    if not equals or not image or not value:
        raise typer.BadParameter(f"{option} {text}: expected IMAGE={second}")
    return image, value


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a CSV or JSON Lines file, and where it stands. Raises BadParameter."""
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if file.suffix.casefold() == ".csv":
        reader = csv.DictReader(lines)
        if "image" not in (reader.fieldnames or ()):
            raise typer.BadParameter(f"{file}: the first line names no column image; expected {COLUMNS}")
        yield from ((f"{file}, line {reader.line_num}", row) for row in reader)
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise typer.BadParameter(f"{file}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise typer.BadParameter(f"{file}, line {number} is no JSON object; expected {COLUMNS}")
        yield f"{file}, line {number}", row
