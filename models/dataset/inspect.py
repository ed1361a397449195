"""The pre-flight: every picture is decoded once, every fault gets its file and reason, the rest becomes samples.

Decides no policy: it says what is faulty and what is left when the faulty is left out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from models.dataset.foreign import class_labels
from models.dataset.layout import Placed, SourceLayout
from models.dataset.limits import Limits
from models.dataset.looks import Flaw, look_at_all
from models.dataset.names import is_odd
from models.dataset.picture import PictureInfo
from models.dataset.progress import Progress
from models.dataset.report import Fault, FaultCode
from models.dataset.sample import SPLITS, Sample, SplitName, natural_order
from models.dataset.similarity import near_duplicates
from models.dataset.unlabelled import UnlabelledImage
from models.formats import FORMAT_OF_SUFFIX, GIF, TIFF

# With fewer, a validation split of a fifth has hardly a picture of the class.
FEW_PER_CLASS = 10
# Where the same picture is in several splits, the one that measures keeps it and the one that teaches loses it.
KEEPS_FIRST: tuple[SplitName | None, ...] = ("test", "val", "train", None)
SPLIT_PAIRS: tuple[tuple[SplitName, SplitName], ...] = (("val", "train"), ("test", "train"), ("test", "val"))


@dataclass(frozen=True)
class Stored:
    """A file of the source, which lies in the dataset's folder under its hash unless `damage` says why not."""

    sha256: str
    bytes: int
    garbled: bool
    damage: str | None = None


@dataclass(frozen=True)
class Findings:
    """`samples` are what can be used; `pictures` describes each of them, by sha256."""

    samples: tuple[Sample, ...]
    pictures: Mapping[str, PictureInfo]
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class UnlabelledFindings:
    """A line for each stored file, in the order of their names; `pictures` describes the sound ones, by sha256."""

    images: tuple[UnlabelledImage, ...]
    pictures: Mapping[str, PictureInfo]
    faults: tuple[Fault, ...]


def inspect(
    folder: Path,
    layout: SourceLayout,
    stored: Mapping[str, Stored],
    limits: Limits,
    progress: Progress,
    threads: int | None = None,
    *,
    apart: bool = False,
) -> Findings:
    """Look at every placed file; writes the thumbnails of the sound ones into `folder`."""
    hashes = {stored[placed.name].sha256 for placed in layout.placed if stored[placed.name].damage is None}
    pictures, flaws = _told_apart(look_at_all(folder, hashes, limits.pixels, progress, threads, apart=apart))
    sound = [placed for placed in layout.placed if stored[placed.name].sha256 in pictures]
    kept, repeats = _without_repeats(sound, stored)
    samples = tuple(_sample(placed, stored[placed.name].sha256, pictures) for placed in kept)
    progress("comparing", 0, None)
    faults = (
        *layout.faults,
        *_flawed(layout.placed, stored, flaws),
        *_remarks(sound, stored, pictures),
        *repeats,
        *about_classes(layout.labels, samples),
        *_across_splits(samples, pictures),
    )
    return Findings(samples, {sample.sha256: pictures[sample.sha256] for sample in samples}, faults)


def inspect_unlabelled(
    folder: Path,
    stored: Mapping[str, Stored],
    limits: Limits,
    progress: Progress,
    threads: int | None = None,
    *,
    apart: bool = False,
) -> UnlabelledFindings:
    """Look at every stored file, wherever it lies. Each keeps its line: copies of a picture, and faulty files."""
    hashes = {file.sha256 for file in stored.values() if file.damage is None}
    pictures, flaws = _told_apart(look_at_all(folder, hashes, limits.pixels, progress, threads, apart=apart))
    placed = [Placed(name, "", None) for name in sorted(stored)]
    sound = [file for file in placed if stored[file.name].sha256 in pictures]
    flawed = tuple(replace(fault, label=None) for fault in _flawed(placed, stored, flaws))
    remarks = tuple(replace(fault, label=None) for fault in _remarks(sound, stored, pictures))
    reasons = {fault.file: fault for fault in flawed}
    images = []
    for name, file in sorted(stored.items()):
        if fault := reasons.get(name):
            images.append(UnlabelledImage(name, fault=str(fault.code), reason=fault.reason))
        else:
            images.append(UnlabelledImage(name, file.sha256, file.bytes))
    none = () if sound else (Fault(FaultCode.NO_IMAGES, "there is no picture that can be used"),)
    return UnlabelledFindings(tuple(images), pictures, (*flawed, *remarks, *none))


def _told_apart(looks: Mapping[str, PictureInfo | Flaw]) -> tuple[dict[str, PictureInfo], dict[str, Flaw]]:
    """The pictures and the flawed files."""
    pictures = {sha256: result for sha256, result in looks.items() if isinstance(result, PictureInfo)}
    return pictures, {sha256: result for sha256, result in looks.items() if isinstance(result, Flaw)}


def _sample(placed: Placed, sha256: str, pictures: Mapping[str, PictureInfo]) -> Sample:
    picture = pictures[sha256]
    return Sample(
        sha256=sha256,
        label=placed.label,
        split=placed.split,
        name=placed.name,
        width=picture.width,
        height=picture.height,
        mode=picture.mode,
        phash=picture.phash,
    )


def _flawed(files: Iterable[Placed], stored: Mapping[str, Stored], flaws: Mapping[str, Flaw]) -> Iterator[Fault]:
    for placed in files:
        file = stored[placed.name]
        if file.damage is not None:
            yield Fault(FaultCode.UNREADABLE, file.damage, placed.name, placed.label)
        elif flaw := flaws.get(file.sha256):
            yield Fault(flaw.code, flaw.reason, placed.name, placed.label)


def _remarks(
    files: Iterable[Placed], stored: Mapping[str, Stored], pictures: Mapping[str, PictureInfo]
) -> Iterator[Fault]:
    """What is worth knowing of pictures that are used all the same."""
    for placed in files:
        file = stored[placed.name]
        picture = pictures[file.sha256]
        suffix = PurePosixPath(placed.name).suffix
        if FORMAT_OF_SUFFIX.get(suffix.casefold()) != picture.format:
            reason = f"the content is {picture.format}, the name ends in {suffix!r}; it is used as what it is"
            yield Fault(FaultCode.WRONG_EXTENSION, reason, placed.name, placed.label)
        if picture.frames > 1:
            reason = f"{_frames(picture)}; its first is used"
            yield Fault(FaultCode.ANIMATED, reason, placed.name, placed.label)
        if file.garbled:
            reason = "the encoding of its path is unknown, so some letters are guessed; rename it in plain letters"
            yield Fault(FaultCode.GARBLED_NAME, reason, placed.name, placed.label)
        elif is_odd(placed.name):
            reason = "its name has blanks, brackets or other marks over which tools stumble; it is used"
            yield Fault(FaultCode.ODD_NAME, reason, placed.name, placed.label)


def _frames(picture: PictureInfo) -> str:
    if picture.format == TIFF.name:
        return "a TIFF of several pages"
    return "an animation" if picture.format == GIF.name else f"an animation of {picture.frames} frames"


def _without_repeats(sound: Iterable[Placed], stored: Mapping[str, Stored]) -> tuple[list[Placed], list[Fault]]:
    """Each content once, under its one label; a content under two labels not at all."""
    groups: dict[str, list[Placed]] = defaultdict(list)
    for placed in sound:
        groups[stored[placed.name].sha256].append(placed)
    kept: list[Placed] = []
    faults: list[Fault] = []
    for group in groups.values():
        first, *others = sorted(group, key=lambda placed: (KEEPS_FIRST.index(placed.split), placed.name))
        if all(other.label == first.label for other in others):
            kept.append(first)
            faults += [_repeat(first, other) for other in others]
        else:
            faults += [_conflict(placed, group) for placed in group]
    return kept, faults


def _repeat(kept: Placed, other: Placed) -> Fault:
    if other.split == kept.split:
        reason = f"the same picture as {_named(kept, other)}; one of the two is kept"
        return Fault(FaultCode.DUPLICATE, reason, other.name, other.label, related=kept.name)
    reason = (
        f"the same picture as {_named(kept, other)} in {kept.split}, where it is to measure what was learned "
        f"without it; it is left out of {other.split}"
    )
    return Fault(FaultCode.DUPLICATE_ACROSS_SPLITS, reason, other.name, other.label, related=kept.name)


def _conflict(placed: Placed, group: Iterable[Placed]) -> Fault:
    other = next(other for other in group if other.label != placed.label)
    reason = f"the same picture as {_named(other, placed)}, which is {other.label!r}; neither is used"
    return Fault(FaultCode.CONFLICTING_LABELS, reason, placed.name, placed.label, related=other.name)


def _named(one: Placed, other: Placed) -> str:
    return one.name if one.name != other.name else "in another row of the manifest"


def about_classes(labels: frozenset[str], samples: Iterable[Sample]) -> Iterator[Fault]:
    """What is wrong with the dataset as a whole, whatever each of its pictures is."""
    samples = list(samples)
    labels = frozenset(class_labels(labels))
    counts = Counter((sample.label, sample.split) for sample in samples)
    splits = [split for split in SPLITS if any(sample.split == split for sample in samples)]
    learned_from: SplitName | None = "train" if splits else None
    if not any(sample.label in labels for sample in samples):
        yield Fault(FaultCode.NO_IMAGES, "there is no picture that can be used")
        return
    if len(labels) == 1:
        reason = f"there is one class only, {min(labels)!r}; telling classes apart takes two"
        yield Fault(FaultCode.SINGLE_CLASS, reason, label=min(labels))
    for label in natural_order(labels):
        count = counts[label, learned_from]
        if count == 0:
            reason = f"the class {label!r} has no picture that can be used{' in train' if splits else ''}"
            yield Fault(FaultCode.EMPTY_CLASS, reason, label=label)
        elif count < FEW_PER_CLASS:
            reason = f"pictures of {label!r} to learn from: {count}; fewer than {FEW_PER_CLASS} teach little"
            yield Fault(FaultCode.CLASS_TOO_SMALL, reason, label=label)
        for split in splits:
            if split != learned_from and counts[label, split] == 0:
                reason = f"the class {label!r} has no picture in {split}, so it is not measured there"
                yield Fault(FaultCode.CLASS_MISSING_IN_SPLIT, reason, label=label)
    yield from _similar_labels(labels)


def _similar_labels(labels: Iterable[str]) -> Iterator[Fault]:
    alike: dict[str, list[str]] = defaultdict(list)
    for label in natural_order(labels):
        alike["".join(label.casefold().split())].append(label)
    for first, *others in alike.values():
        for other in others:
            reason = f"the classes {first!r} and {other!r} differ in case or blanks only; they are taken as two"
            yield Fault(FaultCode.SIMILAR_LABELS, reason, label=other)


def _across_splits(samples: Iterable[Sample], pictures: Mapping[str, PictureInfo]) -> Iterator[Fault]:
    by_split: dict[SplitName | None, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_split[sample.split].append(sample)
    for measured, other in SPLIT_PAIRS:
        first, second = by_split[measured], by_split[other]
        for match in near_duplicates([pictures[s.sha256] for s in first], [pictures[s.sha256] for s in second]):
            here, there = first[match.first], second[match.second]
            reason = (
                f"nearly the same picture as {there.name} in {other} ({match.distance} of 64 bits differ), which "
                "makes what is measured better than the truth; it is used"
            )
            yield Fault(FaultCode.NEAR_DUPLICATE_ACROSS_SPLITS, reason, here.name, here.label, related=there.name)
