"""Backups that lie: about their rows, their files, their checksums, or about being backups."""

import gzip
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from support.attacks.attack import Attack, file, mutations
from support.colours import make_colour_artifact

from models.artifact import read_manifest
from storage.backup import write_backup
from storage.blobs import BlobStore
from storage.database import migrate, open_database
from storage.datasets import DatasetRegistry, DatasetState
from storage.job_ledger import JobLedger
from storage.keys import KeyRing
from storage.registry import ModelRegistry

FAMILY = "backup"
Rows = list[dict[str, Any]]
Change = Callable[[Rows], object]
Members = dict[str, bytes]


@cache
def good_backup() -> bytes:
    """One of everything that a Fovea keeps, with a model that classifies."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder}/fovea.db"
        migrate(url)
        database, blobs = open_database(url), BlobStore(str(folder / "blobs"))
        make_colour_artifact(folder / "version")
        blobs.put_folder("models/colours/1", folder / "version")
        registry = ModelRegistry(database)
        manifest = read_manifest(folder / "version").to_dict()
        registry.add_version("colours", artifact="models/colours/1/", manifest=manifest, size_bytes=1)
        registry.set_alias("colours", "production", 1)
        DatasetRegistry(database).add(
            "ants", prefix="datasets/ds_1", dataset_id="ds_1", state=DatasetState.READY, labels=["a", "b"]
        )
        blobs.put_bytes("datasets/ds_1/dataset.json", b"{}")
        ledger = JobLedger(database)
        attempt = ledger.take(ledger.create("finetune", {"model": "colours", "dataset": "ds_1"}).id, "me", 30)
        assert attempt is not None
        ledger.report_progress(attempt, {"phase": "training"})
        KeyRing(database).create("laptop", ["admin"])
        write_backup(database, blobs, folder / "backup.tar", lambda *_: None)
        database.close()
        return (folder / "backup.tar").read_bytes()


def members() -> Members:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(good_backup())) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            found[member.name] = content.read()
    return found


def packed(parts: Mapping[str, bytes], *others: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in others:
            archive.addfile(member)
    return buffer.getvalue()


def sealed(parts: Members, record: Mapping[str, Any] | None = None) -> bytes:
    """With a record that is true of the parts, but for what `record` says instead."""
    true = json.loads(parts.pop("backup.json"))
    true["members"] = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in parts.items()
    }
    true["rows"] = {}
    for line in parts["rows.jsonl"].splitlines():
        try:
            table = json.loads(line)["table"]
            true["rows"][table] = true["rows"].get(table, 0) + 1
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return packed({**parts, "backup.json": json.dumps({**true, **(record or {})}).encode()})


def with_rows(change: Change) -> bytes:
    """Rows changed, checksums and counts right: what a stranger writes who means it."""
    parts = members()
    rows = [json.loads(line) for line in parts["rows.jsonl"].splitlines()]
    change(rows)
    parts["rows.jsonl"] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return sealed(parts)


def with_line(line: bytes) -> bytes:
    parts = members()
    parts["rows.jsonl"] += line + b"\n"
    return sealed(parts)


def with_record(**fields: Any) -> bytes:
    return sealed(members(), fields)


def with_record_text(text: bytes) -> bytes:
    return packed({**members(), "backup.json": text})


def with_blob(name: str, content: bytes = b"x") -> bytes:
    parts = members()
    return sealed({name: content, **parts})


def without(name: str) -> bytes:
    return packed({key: content for key, content in members().items() if key != name})


def row(table: str, **values: Any) -> Change:
    """These values in the first row of the table."""

    def change(rows: Rows) -> None:
        next(found for found in rows if found["table"] == table)["row"].update(values)

    return change


def dropped(table: str, column: str) -> Change:
    return lambda rows: next(found for found in rows if found["table"] == table)["row"].pop(column)


def doubled(table: str) -> Change:
    return lambda rows: rows.append(next(found for found in rows if found["table"] == table))


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def blob_named(name: str) -> str:
    return next(found for found in members() if found.endswith(name))


def changed_blob(name: str) -> bytes:
    parts = members()
    found = blob_named(name)
    return packed({**parts, found: parts[found][:-1] + b"?"})


WRONG: Mapping[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no tar": lambda: b"PK\x03\x04 and no more" * 100,
    "zeros": lambda: bytes(10_240),
    "gzipped": lambda: gzip.compress(good_backup()),
    **{
        f"cut at {share}": partial(lambda share: good_backup()[: int(len(good_backup()) * share)], share)
        for share in (0.1, 0.3, 0.5, 0.7)
    },
    **{
        f"record {text[:20]!r}": partial(with_record_text, text)
        for text in (b"[]", b"5", b"null", b'"x"', b"{}", b"no JSON", b"\xff", b"[" * 200_000, b'{"format": 1}')
    },
    "format 2": lambda: with_record(format=2),
    "format '1'": lambda: with_record(format="1"),
    "no revision": lambda: with_record(revision=None),
    **{
        f"revision {text!r}": partial(with_record, revision=text)
        for text in ("", "head", "base", "../0001", "0001:head", "9999", "+1", "0" * 10_000, 1, [])
    },
    "made at no time": lambda: with_record(created_at="\x1b[31mnow"),
    "rows are a list": lambda: with_record(rows=[]),
    "rows are text": lambda: with_record(rows={"models": "1"}),
    "rows below none": lambda: with_record(rows={"models": -1}),
    "more rows than there are": lambda: with_record(rows={"models": 2}),
    "members are a list": lambda: with_record(members=[]),
    "members without sha256": lambda: with_record(members={"rows.jsonl": {"bytes": 1}}),
    "members with text as size": lambda: with_record(members={"rows.jsonl": {"bytes": "1", "sha256": "0" * 64}}),
    "members with a short sha256": lambda: with_record(members={"rows.jsonl": {"bytes": 1, "sha256": "0"}}),
    "no members": lambda: with_record(members={}),
    "no rows": lambda: without("rows.jsonl"),
    "no record": lambda: without("backup.json"),
    "a file is missing": lambda: without(blob_named("model.onnx")),
    "a file was changed": lambda: changed_blob("model.onnx"),
    "a file that is not listed": lambda: packed({**members(), "blobs/x": b"x"}),
    "a file twice": lambda: packed(members(), tarfile.TarInfo("rows.jsonl")),
    "a symbolic link": lambda: packed(members(), special("blobs/x", tarfile.SYMTYPE, "/etc/passwd")),
    "a hard link": lambda: packed(members(), special("blobs/x", tarfile.LNKTYPE, "rows.jsonl")),
    "a device": lambda: packed(members(), special("blobs/x", tarfile.CHRTYPE)),
    "a folder": lambda: packed(members(), special("blobs/x", tarfile.DIRTYPE)),
    "a sparse file": lambda: packed(members(), special("blobs/x", tarfile.GNUTYPE_SPARSE)),
    **{
        f"a file at {name!r}": partial(with_blob, name)
        for name in (
            "x",
            "blobs/",
            "blobs/../x",
            "blobs//x",
            "/blobs/x",
            "blobs/a/../../x",
            "blobs/a\\b",
            "blobs/.staging/x",
            "blobs/a\x1b[2J/..",
            "blobs/" + "a/" * 5_000 + "..",
        )
    },
    "an image of the operator's": lambda: with_blob("blobs/images/a.png"),
    "a file in a file": lambda: with_blob(blob_named("model.onnx") + "/x"),
    **{
        f"line {line[:20]!r}": partial(with_line, line)
        for line in (
            b"5",
            b"[]",
            b"null",
            b"{}",
            b"no JSON",
            b"\xff\xfe",
            b'{"table": 5, "row": {}}',
            b'{"table": "models", "row": []}',
            b'{"table": "models", "row": 5}',
            b"[" * 100_000,
            b'{"table": "nothing", "row": {}}',
            b'{"table": "alembic_version", "row": {}}',
            b'{"table": "models", "row": {}}',
            b'{"table": "models"}',
            b'{"row": {}}',
            b"1" * 10_000,
        )
    },
    "a column that there is not": lambda: with_rows(row("models", owner="me")),
    "a model's time is a number": lambda: with_rows(row("models", created_at=5)),
    "a model's time is no time": lambda: with_rows(row("models", created_at="yesterday")),
    "a model's time is without a zone": lambda: with_rows(row("models", created_at="2026-01-01T00:00:00")),
    "a model has no name": lambda: with_rows(row("models", name=None)),
    "a model's name is a path": lambda: with_rows(lambda rows: renamed(rows, "../colours")),
    "a model's name has a lone surrogate": lambda: with_rows(lambda rows: renamed(rows, "\ud800")),
    "a model twice": lambda: with_rows(doubled("models")),
    "a version without its number": lambda: with_rows(dropped("versions", "number")),
    "a version's number is text": lambda: with_rows(row("versions", number="1")),
    "a version's number is true": lambda: with_rows(row("versions", number=True)),
    "a version's number is huge": lambda: with_rows(row("versions", number=2**40)),
    "a version's size is huge": lambda: with_rows(row("versions", size_bytes=2**70)),
    "a version's manifest is a list": lambda: with_rows(row("versions", manifest=[])),
    "a version's manifest is text": lambda: with_rows(row("versions", manifest="{}")),
    "a version's manifest is deep": lambda: with_rows(row("versions", manifest={"a": deep(500)})),
    "a version's manifest has a huge number": lambda: with_rows(row("versions", manifest={"a": 2**80})),
    "a version's labels are a number": lambda: with_rows(row("versions", manifest={"labels": 5})),
    "a version's metrics are a number": lambda: with_rows(row("versions", manifest={"metrics": 5})),
    "a version of another model": lambda: with_rows(row("versions", model="bees")),
    "a version's files are nowhere": lambda: with_rows(row("versions", artifact="models/bees/1/")),
    "a version's files are outside": lambda: with_rows(row("versions", artifact="../../x")),
    "an alias at no version": lambda: with_rows(row("aliases", number=7)),
    "an alias that is none": lambda: with_rows(lambda rows: renamed_alias(rows, "A B")),
    "a job's state is unknown": lambda: with_rows(row("jobs", state="lost")),
    "a job's attempt is text": lambda: with_rows(row("jobs", attempt="1")),
    "a job's request is a list": lambda: with_rows(row("jobs", request=[])),
    "a job's cancel is text": lambda: with_rows(row("jobs", cancel_requested="no")),
    "an event of no job": lambda: with_rows(row("job_events", job_id="job_2")),
    "a dataset's state is unknown": lambda: with_rows(row("datasets", state="lost")),
    "a dataset's labels are numbers": lambda: with_rows(row("datasets", labels=[1, 2])),
    "a dataset's labels are text": lambda: with_rows(row("datasets", labels="ab")),
    "a dataset's files are nowhere": lambda: with_rows(row("datasets", prefix="datasets/ds_2")),
    "a key's scopes are text": lambda: with_rows(row("keys", scopes="admin")),
}


def renamed(rows: Rows, name: str) -> None:
    for entry in rows:
        for column in ("model", "name"):
            if entry["row"].get(column) == "colours":
                entry["row"][column] = name


def renamed_alias(rows: Rows, name: str) -> None:
    for entry in rows:
        if "alias" in entry["row"]:
            entry["row"]["alias"] = name


def attacks(scale: int) -> Iterator[Attack]:
    for name, content in WRONG.items():
        yield file(FAMILY, name, "backup.tar", content)
    yield from mutations(FAMILY, "backup.tar", {"a good one": good_backup}, 30 * scale)
