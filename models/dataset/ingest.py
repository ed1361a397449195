"""From a zip, a tar or a folder to a complete dataset folder, or to nothing. Knows no HTTP and no database."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import closing
from itertools import chain
from pathlib import Path

from models.dataset.archive import kind_of, read_members
from models.dataset.errors import DatasetRefused, LayoutUnclear, MemberDamaged
from models.dataset.folder import complete, count_by_class_and_split, staged
from models.dataset.foreign import class_labels
from models.dataset.inspect import Findings, Stored, UnlabelledFindings, inspect, inspect_unlabelled
from models.dataset.layout import find_layout
from models.dataset.limits import Limits
from models.dataset.member import Member
from models.dataset.names import is_litter
from models.dataset.places import file_name, thumbnail_name
from models.dataset.progress import Progress, no_progress
from models.dataset.report import OnFault, Range, Report, count_by_code, in_order, listed, refusals
from models.dataset.sample import hash_content
from models.dataset.unlabelled import UNLABELLED, complete_unlabelled, hash_images

INCOMING = "incoming"


def ingest(
    source: Path,
    destination: Path,
    *,
    on_fault: OnFault = "skip",
    limits: Limits | None = None,
    progress: Progress = no_progress,
    threads: int | None = None,
    apart: bool = False,
) -> Report:
    """Read, check and store the dataset in `source`; `destination` is complete afterwards, or does not exist.

    The phases of `progress` are "reading", "inspecting" and "comparing", counted in files. `threads` decode,
    as many as there are processors where it is None; with `apart` each in a process of its own, so that a file
    which ends its decoder ends nothing else.

    Raises ArchiveError for a source that is damaged, unsafe or too large, LayoutUnclear where labels would have to
    be guessed, DatasetRefused, with the report, where faults forbid its use, DatasetExists where `destination` is
    taken. Whatever is raised, `progress` included, nothing is left behind.
    """
    limits = limits or Limits()
    kind = kind_of(source)
    with staged(destination) as folder:
        files = read_source(source, folder, limits, progress)
        layout = find_layout(files.stored, files.folders, files.read)
        findings = inspect(folder, layout, files.stored, limits, progress, threads, apart=apart)
        labels = class_labels(layout.labels)
        report = _report(
            files,
            [sample.sha256 for sample in findings.samples],
            findings,
            source=kind,
            layout=layout.kind,
            on_fault=on_fault,
            labels=labels,
            counts=count_by_class_and_split(labels, findings.samples),
            content_hash=hash_content(findings.samples),
        )
        files.keep_only({sample.sha256 for sample in findings.samples})
        complete(folder, findings.samples, report.to_dict())
    return report


def ingest_unlabelled(
    source: Path,
    destination: Path,
    *,
    on_fault: OnFault = "skip",
    limits: Limits | None = None,
    progress: Progress = no_progress,
    threads: int | None = None,
    apart: bool = False,
) -> Report:
    """As `ingest`, of images without labels wherever they lie: each file but litter has its line.

    With `on_fault="skip"` a faulty one keeps its line, which says what is wrong with it. Raises what `ingest`
    raises but LayoutUnclear.
    """
    limits = limits or Limits()
    kind = kind_of(source)
    with staged(destination) as folder:
        files = read_source(source, folder, limits, progress)
        findings = inspect_unlabelled(folder, files.stored, limits, progress, threads, apart=apart)
        used = [image.sha256 for image in findings.images if image.sha256]
        content_hash = hash_images(findings.images)
        report = _report(
            files,
            used,
            findings,
            source=kind,
            layout=UNLABELLED,
            on_fault=on_fault,
            labels=(),
            counts={},
            content_hash=content_hash,
        )
        files.keep_only(set(used))
        complete_unlabelled(folder, findings.images, content_hash, report.to_dict())
    return report


def read_source(source: Path, folder: Path, limits: Limits, progress: Progress) -> "SourceFiles":
    """Every member of the source, its bytes in `folder`. Raises ArchiveError."""
    files = SourceFiles(folder)
    with closing(read_members(source, limits)) as members:
        for member in members:
            files.take(member)
            progress("reading", files.count, None)
    return files


class SourceFiles:
    """What came out of the source: its files lie in the dataset's folder, under their hashes."""

    def __init__(self, folder: Path) -> None:
        self.stored: dict[str, Stored] = {}
        self.folders: set[str] = set()
        self.litter = 0
        self._folder = folder
        self._written: set[str] = set()

    @property
    def count(self) -> int:
        return len(self.stored)

    def take(self, member: Member) -> None:
        if is_litter(member.name):
            self.litter += not member.is_folder
        elif member.is_folder:
            self.folders.add(member.name)
        else:
            self.stored[member.name] = self._store(member)

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises LayoutUnclear where it was damaged: only a manifest is read here."""
        stored = self.stored[name]
        if stored.damage is not None:
            raise LayoutUnclear(f"{name} cannot be read: {stored.damage}")
        return (self._folder / file_name(stored.sha256)).read_bytes()

    def keep_only(self, used: Set[str]) -> None:
        present = {file.sha256 for file in self.stored.values() if file.damage is None}
        for sha256 in present - used:
            (self._folder / file_name(sha256)).unlink(missing_ok=True)
            (self._folder / thumbnail_name(sha256)).unlink(missing_ok=True)

    def _store(self, member: Member) -> Stored:
        try:
            chunks = member.chunks()
            first, second = next(chunks, b""), next(chunks, b"")
            if not second:
                return self._store_small(member, first)
            return self._store_large(member, chain((first, second), chunks))
        except MemberDamaged as exc:
            return Stored("", 0, member.garbled, damage=str(exc))

    def _store_small(self, member: Member, content: bytes) -> Stored:
        """What is there already costs no file: of 100,000 empty members one is written."""
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in self._written:
            self._target(sha256).write_bytes(content)
            self._written.add(sha256)
        return Stored(sha256, len(content), member.garbled)

    def _store_large(self, member: Member, chunks: Iterable[bytes]) -> Stored:
        incoming = self._folder / INCOMING
        digest = hashlib.sha256()
        count = 0
        try:
            with incoming.open("wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    count += len(chunk)
                    file.write(chunk)
            incoming.rename(self._target(digest.hexdigest()))
        finally:
            incoming.unlink(missing_ok=True)
        return Stored(digest.hexdigest(), count, member.garbled)

    def _target(self, sha256: str) -> Path:
        target = self._folder / file_name(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def _report(
    files: SourceFiles,
    used: Sequence[str],
    findings: Findings | UnlabelledFindings,
    *,
    source: str,
    layout: str,
    on_fault: OnFault,
    labels: tuple[str, ...],
    counts: Mapping[str, Mapping[str, int]],
    content_hash: str,
) -> Report:
    """`used` are the images' sha256, each as often as it is used. Raises DatasetRefused."""
    faults = in_order(findings.faults)
    reasons = refusals(faults, on_fault)
    pictures = [findings.pictures[sha256] for sha256 in used]
    sizes = {file.sha256: file.bytes for file in files.stored.values()}
    report = Report(
        source=source,
        layout=layout,
        on_fault=on_fault,
        files=files.count,
        litter=files.litter,
        images=len(used),
        labels=labels,
        counts=counts,
        formats=dict(Counter(picture.format for picture in pictures).most_common()),
        modes=dict(Counter(picture.mode for picture in pictures).most_common()),
        width=Range.of(picture.width for picture in pictures),
        height=Range.of(picture.height for picture in pictures),
        bytes=Range.of(sizes[sha256] for sha256 in used),
        faults=listed(faults),
        fault_counts=count_by_code(faults),
        refusals=reasons,
        content_hash=None if reasons else content_hash,
    )
    if not report.accepted:
        raise DatasetRefused(report)
    return report
