"""Weights of a user's own in the weights folder: listed from the records beside them. Knows no torch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import WeightsError
from models.spec import Preprocessing
from models.weights.record import RECORD_SUFFIX, read_record
from models.weights.source import Checksum, WeightsSource

FOLDER = "imported"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
RESERVED = ("imagenet", "none")


def imported_filename(architecture: str, name: str, suffix: str) -> str:
    """The path below the weights folder. Raises WeightsError where the name is not one for weights."""
    if not NAME.fullmatch(name) or name in RESERVED:
        raise WeightsError(
            f"{name!r} is no name for imported weights: expected lower-case letters, digits and ._- "
            f"(at most 63), and not {' or '.join(RESERVED)}"
        )
    return f"{FOLDER}/{architecture.replace('/', '--')}/{name}{suffix}"


def imported_sources(architecture: str, folder: Path) -> list[WeightsSource]:
    """What has been imported for an architecture, sorted by name."""
    own = folder / FOLDER / architecture.replace("/", "--")
    if not own.is_dir():
        return []
    found = []
    for record_file in sorted(own.glob(f"*{RECORD_SUFFIX}")):
        path = record_file.with_name(record_file.name.removesuffix(RECORD_SUFFIX))
        found.append(source_of(path.relative_to(folder).as_posix(), read_record(path)))
    return found


def source_of(filename: str, record: Mapping[str, Any]) -> WeightsSource:
    """The source that a record describes."""
    return WeightsSource(
        architecture=record["architecture"],
        name=record["weights"],
        origin="file",
        filename=filename,
        url=None,
        preprocessing=Preprocessing.from_dict(record["preprocessing"]),
        labels=tuple(record["labels"]),
        num_classes=record["classes"],
        trained_on=record["trained_on"],
        checksum=Checksum(sha256=record["sha256"]),
        licence=record["licence"],
        params=record["params"],
        size_bytes=record["size_bytes"],
        notes=(f"imported from {record['imported_from']} at {record['imported_at']}",),
    )
