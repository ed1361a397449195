"""Changes to a dataset's images, each named by its sha256 or its path: which image is meant, and what is left.

All of them are made or none: whoever relabels fifty images wants fifty, and one name that is misspelt says that
something else was meant. Knows no files.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from models.dataset.foreign import class_labels
from models.dataset.names import shown
from models.dataset.report import Fault, FaultCode
from models.dataset.sample import Sample, SplitName

SHA256 = re.compile("[0-9a-f]{64}")
SHOWN = 3


@dataclass(frozen=True)
class Changes:
    """`relabel` and `move` are pairs of an image and its label or split from now on, `remove` images."""

    relabel: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    move: tuple[tuple[str, SplitName], ...] = ()

    def named(self) -> Iterator[str]:
        """Each image as often as it is named."""
        yield from (image for image, _ in self.relabel)
        yield from self.remove
        yield from (image for image, _ in self.move)


@dataclass(frozen=True)
class Changed:
    """The samples as they are now, and in numbers what was changed; with fatal `faults` nothing was."""

    samples: tuple[Sample, ...]
    relabelled: Counter[tuple[str, str]]
    removed: Counter[str]
    moved: Counter[tuple[str, str]]
    faults: tuple[Fault, ...]

    def describe(self) -> dict[str, Any]:
        """For reports: how many images went from which label to which, and so on."""
        return {
            "relabelled": [{"from": a, "to": b, "images": n} for (a, b), n in sorted(self.relabelled.items())],
            "removed": dict(sorted(self.removed.items())),
            "moved": [{"from": a, "to": b, "images": n} for (a, b), n in sorted(self.moved.items())],
        }


def apply(changes: Changes, samples: Sequence[Sample]) -> Changed:
    """Make them all, or none where one cannot be made: its fault says why, and there is one for each."""
    found = _Images.of(samples, changes)
    faults = list(found.faults)
    by_sha256 = {sample.sha256: sample for sample in samples}
    splits = {sample.split for sample in samples}
    relabelled: Counter[tuple[str, str]] = Counter()
    removed: Counter[str] = Counter()
    moved: Counter[tuple[str, str]] = Counter()
    for image, label in changes.relabel:
        if sample := found.one(image):
            if sample.label == label:
                faults.append(_unchanged(image, f"is {label!r} already"))
            else:
                relabelled[sample.label, label] += 1
                by_sha256[sample.sha256] = replace(by_sha256[sample.sha256], label=label)
    for image, split in changes.move:
        if split not in splits:
            has = ", ".join(sorted(s for s in splits if s)) or "none"
            reason = f"it is to be moved to {split}, and the dataset has no such split; it has {has}"
            faults.append(Fault(FaultCode.NO_SUCH_SPLIT, reason, file=image))
        elif sample := found.one(image):
            if sample.split == split:
                faults.append(_unchanged(image, f"is in {split} already"))
            else:
                moved[str(sample.split), split] += 1
                by_sha256[sample.sha256] = replace(by_sha256[sample.sha256], split=split)
    for image in changes.remove:
        if sample := found.one(image):
            removed[sample.label] += 1
            by_sha256.pop(sample.sha256, None)
    return Changed(tuple(by_sha256.values()), relabelled, removed, moved, tuple(faults))


def gone_classes(before: Iterable[Sample], after: Iterable[Sample]) -> Iterator[Fault]:
    """The classes that have no image any more, so that a version which learns this has one class less."""
    for label in class_labels({s.label for s in before} - {s.label for s in after}):
        reason = f"no image is {label!r} any more, so that it is no class of the revision"
        yield Fault(FaultCode.CLASS_GONE, reason, label=label)


@dataclass(frozen=True)
class _Images:
    """Which image each name means, where it means one."""

    by_name: Mapping[str, Sample]
    faults: list[Fault] = field(default_factory=list)

    @classmethod
    def of(cls, samples: Sequence[Sample], changes: Changes) -> "_Images":
        candidates = _candidates(samples, set(changes.named()))
        images = cls({name: found[0] for name, found in candidates.items() if len(found) == 1})
        for name, found in candidates.items():
            if not found:
                reason = "the dataset has no image of that sha256 or path"
                images.faults.append(Fault(FaultCode.UNKNOWN_IMAGE, reason, file=name))
            elif len(found) > 1:
                images.faults.append(_ambiguous(name, found))
        images.faults.extend(images._named_twice(changes))
        return images

    def one(self, name: str) -> Sample | None:
        return self.by_name.get(name)

    def _named_twice(self, changes: Changes) -> Iterator[Fault]:
        """What is relabelled and moved is named twice for good reasons, and all else is not."""
        ways = (
            ("relabelled", [image for image, _ in changes.relabel]),
            ("moved", [image for image, _ in changes.move]),
            ("removed", list(changes.remove)),
        )
        done: dict[str, tuple[str, str]] = {}
        for way, images in ways:
            for image in images:
                sample = self.one(image)
                if sample is None:
                    continue
                before = done.get(sample.sha256)
                if before and not (before[0] == "relabelled" and way == "moved"):
                    reason = f"it is to be {way}, and as {shown(before[1])} it is to be {before[0]} already"
                    yield Fault(FaultCode.NAMED_TWICE, reason, file=image, label=sample.label)
                done[sample.sha256] = (way, image)


def _candidates(samples: Sequence[Sample], names: set[str]) -> dict[str, list[Sample]]:
    """By name the images that it may mean: that of the sha256, else those of the path, else of its end."""
    found: dict[str, list[Sample]] = {name: [] for name in names}
    for sample in samples:
        for name in (sample.sha256, sample.name):
            if name in found:
                found[name].append(sample)
    left = {name for name, images in found.items() if not images and not SHA256.fullmatch(name)}
    if left:
        for sample in samples:
            parts = sample.name.split("/")
            for begin in range(1, len(parts)):
                if (end := "/".join(parts[begin:])) in left:
                    found[end].append(sample)
    return found


def _ambiguous(name: str, found: Sequence[Sample]) -> Fault:
    some = ", ".join(f"{shown(s.name)} ({s.sha256[:12]}...)" for s in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    reason = f"it means {len(found)} images, {some}{more}: give the whole path, or the sha256"
    return Fault(FaultCode.AMBIGUOUS_IMAGE, reason, file=name)


def _unchanged(image: str, why: str) -> Fault:
    return Fault(FaultCode.UNCHANGED, f"it {why}", file=image)
