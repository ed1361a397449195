"""The small JSON file beside a weights file that says where it came from."""

import contextlib
import json
from pathlib import Path
from typing import Any

from system.files import write_whole

RECORD_SUFFIX = ".record.json"


def record_path(path: Path) -> Path:
    return path.with_name(path.name + RECORD_SUFFIX)


def read_record(path: Path) -> dict[str, Any]:
    """The record beside `path`, or {} where there is none."""
    with contextlib.suppress(FileNotFoundError):
        record = json.loads(record_path(path).read_text("utf-8"))
        if isinstance(record, dict):
            return record
    return {}


def write_record(path: Path, record: dict[str, Any]) -> None:
    write_whole(record_path(path), json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False))
