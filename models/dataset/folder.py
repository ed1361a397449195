"""A dataset on disk: immutable, content-addressed, complete once `dataset.json` lies in it.

    files/ab/<sha256>          the pictures' bytes as they were sent, under the first two digits of their hash
    thumbnails/<sha256>.webp   at most 160 pixels to a side
    samples.jsonl              one `Sample` to a line
    report.json                what the pre-flight found
    dataset.json               written last: format, labels, counts, content_hash, bytes

Of a revision (`models.dataset.revise`), whose format is `SHARING`, some of the pictures lie in other
folders, under the same names, and `draw.json` says how its split is drawn.

Knows nothing of archives, policies or how the pictures came here.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.dataset.draw import Draw
from models.dataset.errors import DatasetCorrupt, DatasetError, DatasetExists, DatasetNotFound
from models.dataset.foreign import class_labels
from models.dataset.picture import look
from models.dataset.places import DRAW, MANIFEST, REPORT, SAMPLES, file_name, thumbnail_name
from models.dataset.sample import SPLITS, Sample, SplitName, hash_content
from models.errors import without_folder
from system.files import write_whole
from system.scratch import scratch_folder

# A release that knows the first alone would miss pictures of the second, and says that it cannot read it.
FORMAT, SHARING = 1, 2


@dataclass(frozen=True)
class DatasetFolder:
    """A complete dataset. `labels` are in natural order: a label's place is its class index.

    Samples may have another label: of images that show none of the classes. `bytes` are those of all its pictures.
    What does not lie in `path` lies in one of the folders `sources`.
    """

    path: Path
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    content_hash: str
    bytes: int
    sources: tuple[Path, ...] = ()
    draw: Draw | None = None

    @classmethod
    def open(cls, path: Path, sources: Sequence[Path] = ()) -> "DatasetFolder":
        """Raises DatasetNotFound where none is complete, DatasetCorrupt where one contradicts itself.

        The pictures themselves are not read: `verify` does that.
        """
        manifest = _read_manifest(path)
        samples = tuple(_read_samples(path / SAMPLES))
        found = hash_content(samples)
        if found != manifest["content_hash"]:
            raise DatasetCorrupt(
                f"{SAMPLES} has the content hash {found[:12]}..., but {MANIFEST} says "
                f"{str(manifest['content_hash'])[:12]}...: one of them was changed after the upload"
            )
        labels, draw = tuple(manifest["labels"]), _read_draw(path / DRAW)
        return cls(path, labels, samples, found, manifest["bytes"], tuple(sources), draw)

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """Which splits the user made, in the order train, val, test; empty where none were made."""
        present = {sample.split for sample in self.samples}
        return tuple(split for split in SPLITS if split in present)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        return count_by_class_and_split(self.labels, self.samples)

    @property
    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.path / REPORT).read_text("utf-8")))

    def path_of(self, sample: Sample) -> Path:
        return self._found(file_name(sample.sha256))

    def thumbnail_of(self, sample: Sample) -> Path:
        return self._found(thumbnail_name(sample.sha256))

    def verify(self) -> None:
        """Read every picture and compare its hash. Raises DatasetCorrupt naming the first that differs."""
        for sample in self.samples:
            try:
                content = self.path_of(sample).read_bytes()
            except OSError as exc:
                raise DatasetCorrupt(f"{sample.name}: its file {file_name(sample.sha256)} cannot be read") from exc
            if hashlib.sha256(content).hexdigest() != sample.sha256:
                raise DatasetCorrupt(f"{sample.name}: its file {file_name(sample.sha256)} has another checksum")

    def _found(self, name: str) -> Path:
        own = self.path / name
        if not self.sources or own.is_file():
            return own
        return next((folder / name for folder in self.sources if (folder / name).is_file()), own)


def checksums(path: Path) -> dict[str, str]:
    """The sha256 of each picture by its file's name. Raises what `DatasetFolder.open` raises."""
    return {file_name(sample.sha256): sample.sha256 for sample in DatasetFolder.open(path).samples}


@dataclass(frozen=True)
class LabelledImage:
    """A picture on its way into a dataset: the bytes of a JPEG, PNG or WebP file."""

    data: bytes
    label: str
    split: SplitName | None
    name: str


def write_dataset(
    destination: Path, images: Iterable[LabelledImage], *, report: Mapping[str, Any] | None = None
) -> DatasetFolder:
    """Make a dataset of pictures known to be good, such as a built-in one; `ingest` is for what users send.

    The same picture again with the same label and split is kept once. Raises DatasetError where it comes with
    another, ImageError where a picture cannot be decoded, DatasetExists where the destination is taken.
    """
    samples: dict[str, Sample] = {}
    with staged(destination) as folder:
        for image in images:
            sha256 = hashlib.sha256(image.data).hexdigest()
            kept = samples.get(sha256)
            if kept is None:
                samples[sha256] = _add(folder, sha256, image)
            elif (kept.label, kept.split) != (image.label, image.split):
                raise DatasetError(
                    f"{kept.name} and {image.name} are the same picture, as {kept.label!r} in {kept.split} and as "
                    f"{image.label!r} in {image.split}: give it one label and one split"
                )
        complete(folder, tuple(samples.values()), report or {})
    return DatasetFolder.open(destination)


@contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """A folder that becomes `destination` if the block succeeds and is removed if it does not."""
    if destination.exists():
        raise DatasetExists(f"{destination.name} exists already; a dataset is never overwritten")
    with scratch_folder(destination.parent) as folder:
        yield folder
        try:
            folder.rename(destination)
        except OSError as exc:
            if not destination.exists():
                raise
            raise DatasetExists(f"{destination.name} was made by another process meanwhile") from exc


def complete(
    folder: Path,
    samples: Sequence[Sample],
    report: Mapping[str, Any],
    *,
    draw: Draw | None = None,
    sizes: Mapping[str, int] | None = None,
) -> str:
    """Write the lists beside the pictures that lie in `folder` already, `dataset.json` last; the content hash.

    A revision has a `draw`, and the `sizes` of its pictures, wherever they lie, by their sha256.
    """
    # The order depends on the content only, so that equal content trains equally, whatever the files were called.
    ordered = sorted(samples, key=lambda s: (s.split or "", s.label, s.sha256))
    labels = class_labels(s.label for s in ordered)
    content_hash = hash_content(ordered)
    lines = (json.dumps(sample.to_dict(), ensure_ascii=False) + "\n" for sample in ordered)
    write_whole(folder / SAMPLES, "".join(lines))
    write_json(folder / REPORT, report)
    if draw is not None:
        write_json(folder / DRAW, draw.to_dict())
    if sizes is None:
        sizes = {s.sha256: (folder / file_name(s.sha256)).stat().st_size for s in ordered}
    write_json(
        folder / MANIFEST,
        {
            "format": FORMAT if draw is None else SHARING,
            "labels": labels,
            "counts": count_by_class_and_split(labels, ordered),
            "content_hash": content_hash,
            "bytes": sum(sizes[s.sha256] for s in ordered),
        },
    )
    return content_hash


def count_by_class_and_split(labels: Iterable[str], samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Pictures by label, then by split; "all" stands for a dataset without splits. Those of no class come last."""
    counts: dict[str, Counter[str]] = {label: Counter() for label in labels}
    for sample in samples:
        counts.setdefault(sample.label, Counter())[sample.split or "all"] += 1
    return {label: dict(sorted(by_split.items())) for label, by_split in counts.items()}


def write_thumbnail(folder: Path, sha256: str, webp: bytes) -> None:
    target = folder / thumbnail_name(sha256)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(webp)


def _add(folder: Path, sha256: str, image: LabelledImage) -> Sample:
    picture, thumbnail = look(image.data)
    target = folder / file_name(sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(image.data)
    write_thumbnail(folder, sha256, thumbnail)
    return Sample(
        sha256, image.label, image.split, image.name, picture.width, picture.height, picture.mode, picture.phash
    )


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise DatasetNotFound(
            f"{path.name} holds no complete dataset: {MANIFEST}, which is written last, is missing"
        ) from exc
    except ValueError as exc:
        raise DatasetCorrupt(f"{MANIFEST} is not JSON: {exc}") from exc
    if not isinstance(manifest, dict) or not {"format", "labels", "content_hash", "bytes"} <= manifest.keys():
        raise DatasetCorrupt(f"{MANIFEST} lacks fields that every dataset has")
    if manifest["format"] not in (FORMAT, SHARING):
        raise DatasetCorrupt(
            f"the dataset has format {manifest['format']!r}; this release of Fovea reads {FORMAT} and {SHARING}: "
            "upload it again"
        )
    return manifest


def _read_samples(path: Path) -> Iterator[Sample]:
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield Sample.from_dict(json.loads(line))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise DatasetCorrupt(f"{path.name} cannot be read: {without_folder(exc, path)}") from exc


def _read_draw(path: Path) -> Draw | None:
    try:
        return Draw.from_dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DatasetCorrupt(f"{path.name} cannot be read: {without_folder(exc, path)}") from exc


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")
