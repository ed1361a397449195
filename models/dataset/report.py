"""What the pre-flight found: every fault with its file and reason, and what is left to use. Knows no archive."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any, Literal

OnFault = Literal["skip", "refuse"]
Severity = Literal["error", "warning"]

# Who sends 200,000 oddly named files needs their number, not a report of 50 MB.
LISTED_PER_CODE = 5000
MOST_REASONS = 20


class FaultCode(StrEnum):
    """Stable names; a client may act on them."""

    UNREADABLE = "unreadable"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_MANY_PIXELS = "too_many_pixels"
    WRONG_EXTENSION = "wrong_extension"
    ANIMATED = "animated"
    ODD_NAME = "odd_name"
    GARBLED_NAME = "garbled_name"
    OUTSIDE_CLASS_FOLDER = "outside_class_folder"
    DUPLICATE = "duplicate"
    DUPLICATE_ACROSS_SPLITS = "duplicate_across_splits"
    NEAR_DUPLICATE_ACROSS_SPLITS = "near_duplicate_across_splits"
    CONFLICTING_LABELS = "conflicting_labels"
    MISSING_FILE = "missing_file"
    BAD_ROW = "bad_row"
    NOT_IN_MANIFEST = "not_in_manifest"
    SIMILAR_LABELS = "similar_labels"
    CLASS_TOO_SMALL = "class_too_small"
    CLASS_MISSING_IN_SPLIT = "class_missing_in_split"
    EMPTY_CLASS = "empty_class"
    SINGLE_CLASS = "single_class"
    NO_IMAGES = "no_images"
    # Of a revision's changes.
    UNKNOWN_IMAGE = "unknown_image"
    AMBIGUOUS_IMAGE = "ambiguous_image"
    NAMED_TWICE = "named_twice"
    NO_SUCH_SPLIT = "no_such_split"
    UNCHANGED = "unchanged"
    CLASS_GONE = "class_gone"


# With any of these nothing can be learned, whatever the policy.
FATAL = frozenset({FaultCode.EMPTY_CLASS, FaultCode.SINGLE_CLASS, FaultCode.NO_IMAGES}) | {
    # A change that cannot be made: the others are not made without it.
    FaultCode.UNKNOWN_IMAGE,
    FaultCode.AMBIGUOUS_IMAGE,
    FaultCode.NAMED_TWICE,
    FaultCode.NO_SUCH_SPLIT,
}
# A file with one of these is left out, or the dataset refused, as `on_fault` says.
ERRORS = FATAL | {
    FaultCode.UNREADABLE,
    FaultCode.NOT_AN_IMAGE,
    FaultCode.UNSUPPORTED_FORMAT,
    FaultCode.TOO_MANY_PIXELS,
    FaultCode.DUPLICATE_ACROSS_SPLITS,
    FaultCode.CONFLICTING_LABELS,
    FaultCode.MISSING_FILE,
    FaultCode.BAD_ROW,
}


@dataclass(frozen=True)
class Fault:
    """`file` is a path in the source, or a manifest and a line of it; `related` another file that it is about."""

    code: FaultCode
    reason: str
    file: str | None = None
    label: str | None = None
    related: str | None = None

    @property
    def severity(self) -> Severity:
        return "error" if self.code in ERRORS else "warning"

    def to_dict(self) -> dict[str, Any]:
        return {"severity": self.severity, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Range:
    min: int
    median: float
    max: int

    @classmethod
    def of(cls, values: Iterable[int]) -> "Range | None":
        known = sorted(values)
        return cls(known[0], median(known), known[-1]) if known else None


@dataclass(frozen=True)
class Report:
    """`files` counts what was sent but litter, `images` what is used. `counts` is by label, then split or "all".

    `width` and `height` are in pixels, `bytes` is a file's size. `formats` and `modes` are as Pillow names them.
    `faults` lists at most `LISTED_PER_CODE` of each code, `fault_counts` counts them all. The dataset is accepted
    where `refusals` is empty; `content_hash` is None where it is not. `revision` says of a revision what it was
    made of and what was changed; its `files`, `formats` and archive are those of what was added.
    """

    source: str
    layout: str
    on_fault: OnFault
    files: int
    litter: int
    images: int
    labels: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    formats: Mapping[str, int]
    modes: Mapping[str, int]
    width: Range | None
    height: Range | None
    bytes: Range | None
    faults: tuple[Fault, ...]
    fault_counts: Mapping[str, int]
    refusals: tuple[str, ...] = ()
    content_hash: str | None = None
    revision: Mapping[str, Any] | None = None

    @property
    def accepted(self) -> bool:
        return not self.refusals

    def faults_by_code(self) -> dict[str, int]:
        return dict(self.fault_counts)

    def to_dict(self) -> dict[str, Any]:
        plain = dataclasses.asdict(dataclasses.replace(self, faults=()))
        del plain["fault_counts"]
        if self.revision is None:
            del plain["revision"]
        faults = [fault.to_dict() for fault in self.faults]
        return {"accepted": self.accepted, **plain, "faults_by_code": self.faults_by_code(), "faults": faults}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Report":
        """Unknown fields are ignored."""
        known = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}
        for name in ("width", "height", "bytes"):
            known[name] = Range(**known[name]) if known[name] else None
        for name in ("labels", "refusals"):
            known[name] = tuple(known[name])
        known["faults"] = tuple(_fault(fault) for fault in values["faults"])
        known["fault_counts"] = values["faults_by_code"]
        return cls(**known)


def count_by_code(faults: Iterable[Fault]) -> dict[str, int]:
    """The most frequent first."""
    return dict(Counter(str(fault.code) for fault in faults).most_common())


def listed(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """The first `LISTED_PER_CODE` of each code."""
    seen: Counter[FaultCode] = Counter()
    kept = []
    for fault in faults:
        seen[fault.code] += 1
        if seen[fault.code] <= LISTED_PER_CODE:
            kept.append(fault)
    return tuple(kept)


def in_order(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """What decides first: fatal, then errors, then warnings; within each by code and file."""
    codes = list(FaultCode)

    def rank(fault: Fault) -> tuple[int, int, str, str]:
        gravity = 0 if fault.code in FATAL else 1 if fault.code in ERRORS else 2
        return gravity, codes.index(fault.code), fault.file or "", fault.label or ""

    return tuple(sorted(faults, key=rank))


def refusals(faults: Iterable[Fault], on_fault: OnFault) -> tuple[str, ...]:
    """Why a dataset with these faults cannot be accepted under this policy; empty where it can."""
    faults = tuple(faults)
    fatal = [fault.reason for fault in faults if fault.code in FATAL]
    if len(fatal) > MOST_REASONS:
        fatal[MOST_REASONS:] = [f"and {len(fatal) - MOST_REASONS} more reasons"]
    errors = [fault for fault in faults if fault.severity == "error" and fault.code not in FATAL]
    if errors and on_fault == "refuse":
        first = errors[0]
        fatal.append(
            f"on_fault is refuse and faults: {len(errors)}, first {first.file!r}: {first.reason}; "
            "mend them, or send on_fault=skip to leave such files out"
        )
    return tuple(fatal)


def _fault(values: Mapping[str, Any]) -> Fault:
    known = {f.name: values[f.name] for f in dataclasses.fields(Fault) if f.name in values}
    return Fault(**{**known, "code": FaultCode(known["code"])})
