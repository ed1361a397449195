"""What is known of weights without torch: the catalogue's sources, and the files in the weights folder."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.errors import WeightsError
from models.weights.record import RECORD_SUFFIX, read_record
from models.weights.source import WeightsSource
from models.weights.store import WeightsStore
from models.weights.user_weights import FOLDER, imported_sources
from models.zoo.catalogue import catalogue, describe
from system.files import sha256_of

UNFINISHED = (".part", ".etag", ".lock")


@dataclass(frozen=True)
class VerifiedFile:
    """One file of the weights folder. `state` is `ok`, `corrupt` or `unknown`: nothing to compare it with."""

    filename: str
    state: str
    detail: str
    architecture: str | None = None
    weights: str | None = None
    sha256: str | None = None


def catalogue_sources(architecture: str | None = None) -> list[WeightsSource]:
    """The published weights of one architecture, or of all but timm's, of which the catalogue keeps names only.

    Raises UnknownArchitecture.
    """
    if architecture is not None:
        entry = describe(architecture)
        return [] if entry["source"] == "timm" else [WeightsSource.from_dict(w) for w in entry["weights"]]
    return list(_all_sources())


def all_imported(folder: Path) -> list[WeightsSource]:
    """Every imported set of weights, by architecture and name."""
    own = folder / FOLDER
    names = sorted(path.name.replace("--", "/") for path in own.iterdir()) if own.is_dir() else []
    return [source for name in names for source in imported_sources(name, folder)]


def verify_folder(store: WeightsStore, architecture: str | None = None) -> list[VerifiedFile]:
    """Hashes every weights file in the folder and compares it with what is published or was recorded."""
    known = {source.filename: source for source in (*catalogue_sources(), *all_imported(store.folder))}
    findings = [_examine(store, known, name) for name in _files(store.folder)]
    return [found for found in findings if architecture in (None, found.architecture)]


@functools.cache
def _all_sources() -> tuple[WeightsSource, ...]:
    return tuple(
        WeightsSource.from_dict(weights)
        for entry in catalogue()["architectures"]
        if entry["source"] != "timm"
        for weights in entry["weights"]
    )


def _files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if (
            path.is_file()
            and not hidden
            and path.suffix not in UNFINISHED
            and not path.name.endswith(RECORD_SUFFIX)
        ):
            yield path.relative_to(folder).as_posix()


def _examine(store: WeightsStore, known: dict[str, WeightsSource], filename: str) -> VerifiedFile:
    source = known.get(filename)
    path = store.folder / filename
    if source is not None:
        try:
            file = store.check(source)
        except WeightsError as exc:
            return VerifiedFile(filename, "corrupt", str(exc), source.architecture, source.name)
        return VerifiedFile(filename, "ok", file.verified_by, source.architecture, source.name, file.sha256)
    record, sha256 = read_record(path), sha256_of(path)
    owner = (record.get("architecture"), record.get("weights"))
    recorded = record.get("sha256")
    if recorded is None:
        return VerifiedFile(filename, "unknown", "neither published under this name nor recorded", *owner, sha256)
    if recorded != sha256:
        return VerifiedFile(
            filename, "corrupt", f"its sha256 is {sha256}, recorded was {recorded}", *owner, sha256
        )
    return VerifiedFile(filename, "ok", "the sha256 recorded when the file came", *owner, sha256)
