"""A dataset with changes and added images becomes another one, which has files for what was added alone.

Knows no store: where the other files lie, and of what size they are, is told. Decodes the added images alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.dataset.archive import kind_of
from models.dataset.changes import Changes, apply, gone_classes
from models.dataset.draw import next_draw
from models.dataset.errors import DatasetCorrupt, DatasetRefused, LayoutUnclear
from models.dataset.folder import DatasetFolder, complete, count_by_class_and_split, staged
from models.dataset.foreign import class_labels
from models.dataset.ingest import read_source
from models.dataset.inspect import about_classes, inspect
from models.dataset.layout import find_layout
from models.dataset.limits import Limits
from models.dataset.picture import PictureInfo
from models.dataset.places import file_name
from models.dataset.progress import Progress, no_progress
from models.dataset.report import (
    Fault,
    FaultCode,
    OnFault,
    Range,
    Report,
    count_by_code,
    in_order,
    listed,
    refusals,
)
from models.dataset.sample import Sample, hash_content

# What is said of the whole, which an added part is not.
OF_THE_WHOLE = frozenset(
    {
        *(FaultCode.EMPTY_CLASS, FaultCode.SINGLE_CLASS, FaultCode.NO_IMAGES),
        *(FaultCode.CLASS_TOO_SMALL, FaultCode.CLASS_MISSING_IN_SPLIT, FaultCode.SIMILAR_LABELS),
    }
)


@dataclass(frozen=True)
class Parent:
    """What is revised: its `id`, its place in the line, its samples, and the size of each file by sha256."""

    id: str
    revision: int
    folder: DatasetFolder
    sizes: Mapping[str, int]


def revise(
    parent: Parent,
    changes: Changes,
    destination: Path,
    *,
    added: Path | None = None,
    on_fault: OnFault = "skip",
    limits: Limits | None = None,
    progress: Progress = no_progress,
    threads: int | None = None,
    apart: bool = False,
) -> Report:
    """Write the revision to `destination`, which is complete afterwards or does not exist.

    `added` is an archive or a folder of further images, checked as `ingest` checks one. Raises what `ingest`
    raises, DatasetRefused also for changes that cannot be made, and DatasetCorrupt where a file of the parent is
    gone.
    """
    before = parent.folder.samples
    if missing := next((sample for sample in before if sample.sha256 not in parent.sizes), None):
        raise DatasetCorrupt(f"{missing.name}: its file {file_name(missing.sha256)} is gone")
    changed = apply(changes, before)
    with staged(destination) as folder:
        addition = _Addition()
        if added is not None:
            addition = _added(folder, added, before, limits or Limits(), progress, threads, apart=apart)
        fresh, repeats = _without_repeats(addition.samples, changed.samples)
        samples = (*changed.samples, *fresh)
        faults = in_order(
            (
                *changed.faults,
                *addition.faults,
                *repeats,
                *gone_classes(before, samples),
                *about_classes(frozenset(s.label for s in samples), samples),
            )
        )
        reasons = refusals(faults, on_fault)
        labels = class_labels(s.label for s in samples)
        sizes = {**addition.sizes, **parent.sizes}
        content_hash = hash_content(samples)
        report = Report(
            source=addition.kind,
            layout=addition.layout,
            on_fault=on_fault,
            files=addition.files,
            litter=addition.litter,
            images=len(samples),
            labels=labels,
            counts=count_by_class_and_split(labels, samples),
            formats=_counts(addition.pictures[s.sha256].format for s in fresh),
            modes=_counts(s.mode for s in samples),
            width=Range.of(s.width for s in samples),
            height=Range.of(s.height for s in samples),
            bytes=Range.of(sizes[s.sha256] for s in samples),
            faults=listed(faults),
            fault_counts=count_by_code(faults),
            refusals=reasons,
            content_hash=None if reasons else content_hash,
            revision={
                "parent": parent.id,
                "number": parent.revision + 1,
                **changed.describe(),
                "added": dict(sorted(Counter(s.label for s in fresh).items())),
            },
        )
        if not report.accepted:
            raise DatasetRefused(report)
        draw = next_draw(before, parent.folder.draw, samples)
        complete(folder, samples, report.to_dict(), draw=draw, sizes=sizes)
    return report


@dataclass(frozen=True)
class _Addition:
    """What was sent with the changes."""

    samples: tuple[Sample, ...] = ()
    faults: tuple[Fault, ...] = ()
    pictures: Mapping[str, PictureInfo] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    kind: str = "revision"
    layout: str = "revision"
    files: int = 0
    litter: int = 0


def _added(
    folder: Path,
    source: Path,
    before: Iterable[Sample],
    limits: Limits,
    progress: Progress,
    threads: int | None,
    *,
    apart: bool,
) -> _Addition:
    """Raises what `ingest` raises but DatasetRefused."""
    kind = kind_of(source)
    files = read_source(source, folder, limits, progress)
    layout = find_layout(files.stored, files.folders, files.read)
    has_splits = any(sample.split for sample in before)
    if not has_splits and any(placed.split for placed in layout.placed):
        raise LayoutUnclear(
            "the dataset has no splits, and the added images have: put class folders at the top, without train, "
            "val or test above them"
        )
    findings = inspect(folder, layout, files.stored, limits, progress, threads, apart=apart)
    present = {sample.sha256 for sample in before}
    files.keep_only({sample.sha256 for sample in findings.samples} - present)
    samples = findings.samples
    if has_splits:
        samples = tuple(replace(sample, split=sample.split or "train") for sample in samples)
    return _Addition(
        samples,
        tuple(fault for fault in findings.faults if fault.code not in OF_THE_WHOLE),
        findings.pictures,
        {file.sha256: file.bytes for file in files.stored.values()},
        kind,
        layout.kind,
        files.count,
        files.litter,
    )


def _without_repeats(
    added: Iterable[Sample], present: Iterable[Sample]
) -> tuple[tuple[Sample, ...], tuple[Fault, ...]]:
    """Those that are new: what is there already stays as it is, whatever the added one is called."""
    there = {sample.sha256: sample for sample in present}
    fresh, faults = [], []
    for sample in added:
        kept = there.get(sample.sha256)
        if kept is None:
            fresh.append(sample)
        elif kept.label == sample.label:
            reason = f"the same picture as {kept.name}, which the dataset has already"
            faults.append(Fault(FaultCode.DUPLICATE, reason, sample.name, sample.label, related=kept.name))
        else:
            reason = (
                f"the same picture as {kept.name}, which is {kept.label!r} in the dataset; it stays so: relabel "
                "that one if it is wrong"
            )
            fault = Fault(FaultCode.CONFLICTING_LABELS, reason, sample.name, sample.label, related=kept.name)
            faults.append(fault)
    return tuple(fresh), tuple(faults)


def _counts(values: Iterable[str]) -> dict[str, Any]:
    return dict(Counter(values).most_common())
