"""The folder of one version: `model.onnx`, its variants, its card, and `manifest.json`, which is written last.

Whoever finds a manifest finds a whole artifact; a folder without one is nothing yet. Knows no torch, no database
and not where the folder is kept.
"""

import dataclasses
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypedDict

from models.errors import ArtifactCorrupt, ArtifactNotFound, InvalidPreprocessing
from models.spec import Preprocessing
from system.files import is_part, sha256_of, sync, write_whole

FORMAT = 2
# Format 1 has the outputs that every model has, and no variants.
READ_FORMATS = (1, 2)
MANIFEST = "manifest.json"
MODEL = "model.onnx"
FLOAT32: Final = "float32"
Precision = Literal["float32", "int8", "fp16"]
PrecisionChoice = Literal["auto", "float32", "int8", "fp16"]

DISTRIBUTIONS = (
    "fovea", "torch", "torchvision", "timm", "onnx", "onnxscript",
    "onnxruntime", "onnxruntime-gpu", "numpy", "pillow",
)  # fmt: skip


class FileEntry(TypedDict):
    sha256: str
    bytes: int


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Manifest:
    """All that is known about a version.

    `labels` are in the order of the outputs. `weights`, `dataset` and `recipe` say where the version comes from;
    `metrics`, `calibration` (with its `temperature`) and `parity` how good it is. `files` maps each file's path
    inside the folder, with forward slashes, to its sha256 in hex and its size. `outputs` are the graph's, with
    their sizes for one image. `variants` has the report of each variant that was tried, by its precision; those
    that `passed` have a file. `findings` is what the version was looked at for beside its metrics, each by its
    name. `created_at` is RFC 3339 in UTC.
    """

    model: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    architecture: str
    architecture_params: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None
    seed: int | None = None
    software: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, list[int]] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    created_at: str = field(default_factory=_now)
    files: dict[str, FileEntry] = field(default_factory=dict)
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Manifest":
        """The reverse of `to_dict`. Fields of a later release are ignored; raises ArtifactCorrupt for the rest."""
        if not isinstance(values, Mapping):
            raise ArtifactCorrupt(f"a manifest is a JSON object, not {type(values).__name__}")
        if values.get("format") not in READ_FORMATS:
            read = " and ".join(map(str, READ_FORMATS))
            raise ArtifactCorrupt(f"the manifest is of format {values.get('format')!r}; this Fovea reads {read}")
        known = {f.name for f in dataclasses.fields(cls)}
        kept = {name: value for name, value in values.items() if name in known}
        try:
            kept["labels"] = tuple(str(label) for label in kept["labels"])
            kept["preprocessing"] = Preprocessing.from_dict(kept["preprocessing"])
            kept["files"] = {
                str(name): FileEntry(sha256=str(entry["sha256"]), bytes=int(entry["bytes"]))
                for name, entry in kept.get("files", {}).items()
            }
            kept["variants"] = {str(name): dict(report) for name, report in kept.get("variants", {}).items()}
            return cls(**kept)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, InvalidPreprocessing) as exc:
            raise ArtifactCorrupt(f"the manifest cannot be read: {type(exc).__name__}: {exc}") from exc


def model_file(precision: str) -> str:
    """The name of the graph in that precision: `model.onnx`, `model.int8.onnx`."""
    return MODEL if precision == FLOAT32 else f"model.{precision}.onnx"


def served_precisions(variants: Mapping[str, Mapping[str, Any]] | None) -> tuple[str, ...]:
    """What a version can be asked for, by the `variants` of its manifest: float32, and those that passed."""
    return (FLOAT32, *(precision for precision, report in (variants or {}).items() if report.get("passed")))


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Hash every file of the folder, then publish it by writing `manifest.json` in one step.

    Returns the manifest with its `files`. Everything is on the disk before the manifest is, so that a crash at any
    moment leaves a whole artifact or none. Raises ArtifactCorrupt when there is no `model.onnx`, or a link.
    """
    files: dict[str, FileEntry] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ArtifactCorrupt(f"{path.name} is a link; an artifact holds its own files")
        if is_part(path):
            path.unlink()
        elif path.is_file() and path != folder / MANIFEST:
            files[path.relative_to(folder).as_posix()] = _entry(path)
            sync(path)
    if MODEL not in files:
        raise ArtifactCorrupt(f"there is no {MODEL} in {folder.name}; export the model before its manifest")
    for subfolder in {(folder / name).parent for name in files}:
        sync(subfolder)
    complete = dataclasses.replace(manifest, files=files)
    write_whole(folder / MANIFEST, json.dumps(complete.to_dict(), indent=2, ensure_ascii=False) + "\n")
    return complete


def read_manifest(folder: Path) -> Manifest:
    """Raises ArtifactNotFound when there is no manifest, ArtifactCorrupt when it is not one."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise ArtifactNotFound(f"there is no complete artifact in {folder.name}: {MANIFEST} is missing") from exc
    except UnicodeDecodeError as exc:
        raise ArtifactCorrupt(f"{MANIFEST} of {folder.name} is not UTF-8 text") from exc
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ArtifactCorrupt(f"{MANIFEST} of {folder.name} is not JSON: {exc}") from exc
    return Manifest.from_dict(values)


def checksums(folder: Path) -> dict[str, str]:
    """The sha256 of each file by its name, as the manifest lists them. Raises what `read_manifest` raises."""
    return {name: entry["sha256"] for name, entry in read_manifest(folder).files.items()}


def verify(folder: Path, names: Iterable[str] | None = None) -> Manifest:
    """Read the manifest and compare the files, or only those of `names`, with it.

    Raises ArtifactCorrupt naming the first file that is missing or different, with both checksums.
    """
    manifest = read_manifest(folder)
    for name in manifest.files if names is None else names:
        if name not in manifest.files:
            raise ArtifactCorrupt(f"the manifest in {folder.name} does not list {name}")
        if _leaves(name):
            raise ArtifactCorrupt(f"the manifest in {folder.name} lists {name!r}, which is outside its folder")
        _compare(folder, name, manifest.files[name])
    return manifest


def software_versions() -> dict[str, str]:
    """Versions of what made an artifact, read without importing any of it."""
    versions = {"python": platform.python_version()}
    for distribution in DISTRIBUTIONS:
        try:
            versions[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _compare(folder: Path, name: str, expected: FileEntry) -> None:
    try:
        found = _entry(folder / name)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as exc:
        raise ArtifactCorrupt(f"{name} is missing in {folder.name}") from exc
    if found != expected:
        raise ArtifactCorrupt(
            f"{name} in {folder.name} is not the published file: its sha256 is {found['sha256']} "
            f"({found['bytes']:,} bytes), the manifest says {expected['sha256']} ({expected['bytes']:,} bytes)"
        )


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)


def _leaves(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name
