"""What an evaluation found, as one document: each version's figures, the pairs, and words for what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.evaluation.comparison import Comparison
from models.evaluation.measurement import Measurement

LISTED_DIFFERING = 100
LISTED_LABELS = 50
LARGEST_CONFUSION_MATRIX = 100
SPLIT_WORDS: Mapping[str, str] = {
    "unseen": "those that no version is known to have learnt from",
    "train": "its training split",
    "validation": "its validation split",
    "test": "its test split",
    "all": "all of them",
}


@dataclass(frozen=True)
class MeasuredImage:
    """`path` is what its sender called it."""

    path: str
    label: str
    sha256: str


@dataclass(frozen=True)
class VersionReport:
    """One version. `name` is `model:version`, `reference` how it was asked for.

    `unknown` counts the images of each class that the version does not know, or knows twice; `absent` are the
    classes of its own that no image has. `failed` counts the images that it could not classify, by error. `seen`
    is how many of the images it is known to have learnt from, and `gaps` say why there may be more.
    """

    name: str
    model: str
    version: int
    reference: str
    architecture: str
    precision: str
    provider: str
    measurement: Measurement
    unknown: Mapping[str, int]
    absent: Sequence[str]
    failed: Mapping[str, int]
    seen: int
    gaps: Sequence[str]

    @property
    def unknown_images(self) -> int:
        return sum(self.unknown.values())

    def seen_share(self, images: int) -> float | None:
        """Of all that were measured; None where it is not known to have seen any, but may have."""
        return None if self.gaps and not self.seen else self.seen / images


@dataclass(frozen=True)
class PairReport:
    """Two versions, by their names; no comparison where no image can measure both."""

    first: str
    second: str
    comparison: Comparison | None
    conclusion: str


@dataclass(frozen=True)
class VersionsAnswer:
    """What one version said of an image; nothing where it could not classify it."""

    label: str | None
    probability: float | None


@dataclass(frozen=True)
class DifferingImage:
    """An image on which not all versions gave the same answer; `answers` are in the order of the versions."""

    image: MeasuredImage
    answers: tuple[VersionsAnswer, ...]


@dataclass(frozen=True)
class EvaluationReport:
    """`dataset_images` is how many the dataset has, `images` those of them that were measured by.

    `differing` are the first of the `differing_images`: those first that some get right and others do not.
    """

    dataset: str
    dataset_name: str
    content_hash: str
    dataset_images: int
    split: str
    images: tuple[MeasuredImage, ...]
    versions: tuple[VersionReport, ...]
    pairs: tuple[PairReport, ...]
    differing: tuple[DifferingImage, ...]
    differing_images: int
    created_at: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers must know, most important first."""
        found = [w for version in self.versions for w in _seen_warnings(version, len(self.images))]
        found += [w for version in self.versions for w in _left_out_warnings(version)]
        if len(precisions := {version.precision for version in self.versions}) > 1:
            by_name = ", ".join(f"{version.name} in {version.precision}" for version in self.versions)
            found.append(f"The versions were computed in {len(precisions)} precisions: {by_name}.")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        return {
            "dataset": {
                "id": self.dataset,
                "name": self.dataset_name,
                "content_hash": self.content_hash,
                "images": self.dataset_images,
            },
            "split": self.split,
            "images": len(self.images),
            "created_at": self.created_at,
            "warnings": list(self.warnings),
            "versions": [self._version(version) for version in self.versions],
            "comparisons": [
                {
                    "first": pair.first,
                    "second": pair.second,
                    **(asdict(pair.comparison) if pair.comparison else dict.fromkeys(_COMPARED)),
                    "conclusion": pair.conclusion,
                }
                for pair in self.pairs
            ],
            "differing_images": self.differing_images,
            "differing": [
                {**asdict(found.image), "answers": [asdict(answer) for answer in found.answers]}
                for found in self.differing
            ],
        }

    def _version(self, version: VersionReport) -> dict[str, Any]:
        found = version.measurement
        return {
            "model": version.model,
            "version": version.version,
            "reference": version.reference,
            "architecture": version.architecture,
            "precision": version.precision,
            "provider": version.provider,
            "images": found.images,
            "accuracy": found.accuracy,
            "accuracy_interval": list(found.accuracy_interval),
            "baseline_accuracy": found.baseline_accuracy,
            "top5_accuracy": found.top5_accuracy,
            "macro_f1": found.macro_f1,
            "loss": found.loss,
            "brier": found.brier,
            "calibration_error": found.calibration_error,
            "reliability": [asdict(b) for b in found.reliability],
            "classes": [asdict(of_class) for of_class in found.classes],
            "confusion": _confusion(found),
            "confused": [asdict(pair) for pair in found.confused],
            "worst": [
                {
                    **asdict(self.images[mistake.index]),
                    "predicted": mistake.predicted,
                    "probability": mistake.probability,
                    "of_label": mistake.of_truth,
                }
                for mistake in found.mistakes
            ],
            "unknown_images": version.unknown_images,
            "unknown_labels": dict(list(version.unknown.items())[:LISTED_LABELS]),
            "absent_labels": list(version.absent[:LISTED_LABELS]),
            "failed": dict(version.failed),
            "seen_images": version.seen,
            "seen_share": version.seen_share(len(self.images)),
            "seen_unknown": list(version.gaps),
        }


_COMPARED = tuple(Comparison.__dataclass_fields__)


def conclude(first: str, second: str, found: Comparison | None, *, pairs: int, seen: Sequence[str] = ()) -> str:
    """What can be concluded of two versions and what cannot, in words. `pairs` is how many are compared; `seen`
    are those of the two that are known to have learnt from images that they were measured by."""
    if found is None:
        return f"{first} and {second} cannot be compared: there is no image whose class both know."
    corrected = f", corrected by Holm for {pairs} pairs" if pairs > 1 else ""
    low, high = (f"{100 * bound:+.1f}" for bound in found.difference_interval)
    counts = (
        f"of {found.images} images {first} alone gets {found.only_first} right and {second} alone "
        f"{found.only_second}. The difference lies between {low} and {high} points (95 % interval; McNemar's "
        f"exact test: {_p(found.adjusted_p_value)}{corrected})."
    )
    if found.is_significant:
        better, worse = (first, second) if found.difference > 0 else (second, first)
        said = f"On images like these {better} is right more often than {worse}: {counts}"
    else:
        said = (
            f"These images cannot tell which of {first} and {second} is right more often: {counts} That is no "
            "proof that they are equally good."
        )
    if len(seen) == 1:
        said += f" But {seen[0]} learnt from some of these images, which favours it."
    elif seen:
        said += " But both learnt from some of these images: of new ones this says little."
    return said


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


def _seen_warnings(version: VersionReport, images: int) -> list[str]:
    if version.seen:
        return [
            f"{version.name} learnt from {version.seen} of these {images} images "
            f"({100 * version.seen / images:.1f} %): how good it is on new ones, they do not tell."
        ]
    return [f"{version.name} may have learnt from some of these images: {gap}." for gap in version.gaps]


def _left_out_warnings(version: VersionReport) -> list[str]:
    found = []
    if version.unknown:
        names = list(version.unknown)
        named = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        found.append(
            f"{version.name} has no class named {named}: {version.unknown_images} images are not in its figures."
        )
    if version.failed:
        count = sum(version.failed.values())
        codes = ", ".join(f"{code}: {n}" for code, n in version.failed.items())
        found.append(f"{count} images could not be classified by {version.name} ({codes}) and are in no figure.")
    return found


def _confusion(found: Measurement) -> dict[str, Any] | None:
    """Rows are true classes, columns answers, both as `labels`; None with many, of which `confused` has the
    pairs."""
    if len(found.classes) > LARGEST_CONFUSION_MATRIX:
        return None
    return {"labels": [of_class.label for of_class in found.classes], "counts": found.confusion.tolist()}
