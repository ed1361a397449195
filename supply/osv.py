"""Known vulnerabilities of pins, from OSV's database: a copy on the disk, or its interface on the network.

The format is OSV's own (ossf.github.io/osv-schema); the copy is a folder of records, one of them, or the zip of
all of PyPI's that OSV offers.
"""

import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from supply.pins import Pin

ECOSYSTEM = "PyPI"
TIMEOUT_S = 20.0


class DatabaseUnavailable(Exception):
    """There is no database to look into; nothing was checked."""


@dataclass(frozen=True)
class Finding:
    """`known_as` are the same vulnerability's other names."""

    pin: Pin
    id: str
    known_as: tuple[str, ...] = ()
    summary: str = ""


def from_file(path: Path, pins: Iterable[Pin]) -> tuple[list[Finding], int]:
    """The findings, and how many records of PyPI's packages there were. Raises DatabaseUnavailable."""
    records: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    count = 0
    for record in _records(path):
        names = {_name(affected) for affected in record.get("affected", ())} - {None}
        count += bool(names)
        for name in names:
            records[str(name)].append(record)
    if not count:
        raise DatabaseUnavailable(f"{path} holds no record of a package of {ECOSYSTEM}")
    return [found for pin in pins for found in _findings(pin, records[pin.name])], count


def from_network(url: str, pins: Sequence[Pin]) -> list[Finding]:
    """Raises DatabaseUnavailable where not every pin was answered for."""
    queries = [{"package": {"name": pin.name, "ecosystem": ECOSYSTEM}, "version": pin.version} for pin in pins]
    try:
        answer = httpx.post(f"{url.rstrip('/')}/v1/querybatch", json={"queries": queries}, timeout=TIMEOUT_S)
        answer.raise_for_status()
        results = answer.json()["results"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as exc:
        raise DatabaseUnavailable(f"{url} could not be asked: {exc!r}") from exc
    if not isinstance(results, list) or len(results) != len(pins):
        raise DatabaseUnavailable(f"{url} did not answer for each of {len(pins)} packages")
    if any("next_page_token" in result for result in results):
        raise DatabaseUnavailable(f"{url} answered with pages; take a copy of the database instead")
    return [
        Finding(pin, str(vulnerability["id"]))
        for pin, result in zip(pins, results, strict=True)
        for vulnerability in result.get("vulns", ())
    ]


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        if path.is_dir():
            texts: Iterable[str | bytes] = (file.read_text() for file in sorted(path.rglob("*.json")))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".json")]
                yield from (_record(archive.read(name), path) for name in names)
            return
        else:
            texts = [path.read_text()]
        yield from (_record(text, path) for text in texts)
    except (OSError, zipfile.BadZipFile) as exc:
        raise DatabaseUnavailable(f"{path} cannot be read: {exc}") from exc


def _record(text: str | bytes, path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(text)
    except ValueError as exc:
        raise DatabaseUnavailable(f"{path} holds something else than OSV's records: {exc}") from exc
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise DatabaseUnavailable(f"{path} holds a record without an id")
    return record


def _name(affected: Mapping[str, Any]) -> str | None:
    package = affected.get("package") or {}
    return canonicalize_name(package["name"]) if package.get("ecosystem") == ECOSYSTEM else None


def _findings(pin: Pin, records: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    for record in records:
        # Taken back by whoever reported it.
        if record.get("withdrawn"):
            continue
        if any(_name(affected) == pin.name and _is_hit(pin.version, affected) for affected in record["affected"]):
            yield Finding(pin, record["id"], tuple(record.get("aliases", ())), str(record.get("summary", "")))


def _is_hit(version: str, affected: Mapping[str, Any]) -> bool:
    if any(_is_same(version, listed) for listed in affected.get("versions", ())):
        return True
    ranges = (one for one in affected.get("ranges", ()) if one.get("type") in ("ECOSYSTEM", "SEMVER"))
    return any(_is_within(Version(version), one.get("events", ())) for one in ranges)


def _is_same(version: str, listed: str) -> bool:
    try:
        return Version(version) == Version(listed)
    except InvalidVersion:
        return version == listed


def _is_within(version: Version, events: Iterable[Mapping[str, str]]) -> bool:
    """Events in the order of their versions turn it on and off. What cannot be read counts as a hit."""
    try:
        ordered = sorted((_at(value), kind) for event in events for kind, value in event.items())
    except InvalidVersion:
        return True
    hit = False
    for at, kind in ordered:
        if kind == "introduced" and version >= at:
            hit = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            hit = False
    return hit


def _at(value: str) -> Version:
    """OSV's "0" is before every version, development releases among them."""
    return Version("0.dev0" if value == "0" else value)
