"""The report of an evaluation, from the files of answers: each version's figures, and what each pair shows."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.comparison import Comparison, compare, holm
from models.evaluation.measurement import Answers, measure
from models.evaluation.report import (
    LISTED_DIFFERING,
    DifferingImage,
    EvaluationReport,
    MeasuredImage,
    PairReport,
    VersionReport,
    VersionsAnswer,
    conclude,
)
from storage.blobs import BlobStore
from storage.errors import Conflict
from storage.registry import Version
from workers.contract.evaluations import ChunkHead, answers_key, read_chunk
from workers.contract.jobs.evaluate import ComparedPair, EvaluatedScore, EvaluateRequest, EvaluateResult
from workers.contract.results import count_chunks
from workers.inference.labelled import LabelledDataset
from workers.inference.selection import Selection, class_indices
from workers.jobs.failure import InvalidRequest


@dataclass(frozen=True)
class StoredAnswers:
    """All answers of a version, from its files. `labels` are the answers, None where an image could not be
    classified.

    Several providers are told where attempts ran on several machines.
    """

    answers: Answers
    labels: tuple[str | None, ...]
    failed: Counter[str]
    precision: str
    providers: str

    def of(self, i: int) -> VersionsAnswer:
        label = self.labels[i]
        return VersionsAnswer(label, None if label is None else float(self.answers.probability[i]))


def make_report(
    job_id: str,
    request: EvaluateRequest,
    versions: Sequence[Version],
    selection: Selection,
    dataset: LabelledDataset,
    blobs: BlobStore,
) -> EvaluationReport:
    """Raises InvalidRequest where a version could not classify an image of a class that it knows, Conflict where
    another attempt writes answers at the same time, NotFound and BlobsUnavailable."""
    images = tuple(MeasuredImage(image.path, image.label, image.sha256) for image in selection.images)
    stored = [
        _read(blobs, job_id, place, len(images), request.chunk, version) for place, version in enumerate(versions)
    ]
    reports = tuple(
        _version_report(asked.reference, version, stored[place], selection, place)
        for place, (asked, version) in enumerate(zip(request.models, versions, strict=True))
    )
    differing = _differing(stored)
    return EvaluationReport(
        dataset=dataset.id,
        dataset_name=dataset.name,
        content_hash=dataset.folder.content_hash,
        dataset_images=len(dataset.folder.samples),
        split=request.split,
        images=images,
        versions=reports,
        pairs=_pairs(reports, [found.answers for found in stored]),
        differing=tuple(
            DifferingImage(images[i], tuple(found.of(i) for found in stored)) for i in differing[:LISTED_DIFFERING]
        ),
        differing_images=len(differing),
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )


def result_of(report: EvaluationReport) -> EvaluateResult:
    """The report in short, for the job's row."""
    return EvaluateResult(
        dataset=report.dataset,
        split=report.split,
        images=len(report.images),
        versions=tuple(_score(version, len(report.images)) for version in report.versions),
        comparisons=tuple(_compared(pair) for pair in report.pairs),
        differing_images=report.differing_images,
        warnings=report.warnings,
    )


def _score(version: VersionReport, images: int) -> EvaluatedScore:
    found = version.measurement
    return EvaluatedScore(
        model=version.model,
        version=version.version,
        reference=version.reference,
        precision=version.precision,
        provider=version.provider,
        images=found.images,
        accuracy=found.accuracy,
        accuracy_interval=found.accuracy_interval,
        top5_accuracy=found.top5_accuracy,
        macro_f1=found.macro_f1,
        loss=found.loss,
        brier=found.brier,
        calibration_error=found.calibration_error,
        unknown_images=version.unknown_images,
        seen_share=version.seen_share(images),
    )


def _compared(pair: PairReport) -> ComparedPair:
    found = pair.comparison
    return ComparedPair(
        first=pair.first,
        second=pair.second,
        images=found.images if found else 0,
        only_first=found.only_first if found else 0,
        only_second=found.only_second if found else 0,
        difference=found and found.difference,
        difference_interval=found and found.difference_interval,
        p_value=found and found.p_value,
        adjusted_p_value=found and found.adjusted_p_value,
        conclusion=pair.conclusion,
    )


def _read(blobs: BlobStore, job_id: str, place: int, images: int, chunk: int, version: Version) -> StoredAnswers:
    known = class_indices(version.labels)
    heads: set[ChunkHead] = set()
    parts: list[NDArray[np.float64]] = []
    labels: list[str | None] = []
    failed: Counter[str] = Counter()
    # Of each answer the same few texts are kept, for there may be a million.
    text_of: dict[str | None, str | None] = {label: label for label in version.labels}
    for number in range(count_chunks(images, chunk)):
        head, lines = read_chunk(blobs.get_bytes(answers_key(job_id, place, number)))
        heads.add(head)
        parts.append(np.array([_figures(line, known) for line in lines]))
        labels += (text_of.get(line["predicted"]) for line in lines)
        failed.update(line["error"]["code"] for line in lines if line["error"])
    if len({head.precision for head in heads}) != 1 or len(labels) != images:
        raise Conflict("another attempt writes answers at the same time")
    truth, predicted, rank, probability, of_truth, brier = np.concatenate(parts).T
    return StoredAnswers(
        Answers(
            truth.astype(np.int64),
            predicted.astype(np.int64),
            probability,
            of_truth,
            rank.astype(np.int64),
            brier,
        ),
        tuple(labels),
        failed,
        next(iter(heads)).precision,
        ", ".join(sorted({head.provider for head in heads})),
    )


def _figures(line: dict[str, Any], known: dict[str, int]) -> tuple[float, ...]:
    """A line's part of the arrays: truth, predicted, rank, probability, of_truth, brier."""
    truth = known.get(line["label"], -1)
    if line["figures"] is None or truth < 0:
        return truth, -1, 0, line["probability"] or 0.0, 0.0, 0.0
    best, rank, brier = line["figures"]
    return truth, best, rank, line["probability"], line["of_label"], brier


def _version_report(
    reference: str, version: Version, stored: StoredAnswers, selection: Selection, place: int
) -> VersionReport:
    name = f"{version.model}:{version.number}"
    measurement = measure(stored.answers, version.labels)
    if measurement is None:
        errors = ", ".join(f"{code} of {n}" for code, n in stored.failed.items())
        raise InvalidRequest(f"dataset: {name} could classify none of its images ({errors})")
    known = class_indices(version.labels)
    occurring = {image.label for image in selection.images}
    unknown = Counter(image.label for image in selection.images if image.label not in known)
    seen = selection.seen[place]
    return VersionReport(
        name=name,
        model=version.model,
        version=version.number,
        reference=reference,
        architecture=version.architecture,
        precision=stored.precision,
        provider=stored.providers,
        measurement=measurement,
        unknown=dict(unknown.most_common()),
        absent=[label for label in version.labels if label not in occurring],
        failed=dict(stored.failed.most_common()),
        seen=seen.images,
        gaps=seen.gaps,
    )


def _pairs(reports: Sequence[VersionReport], answers: Sequence[Answers]) -> tuple[PairReport, ...]:
    """Each version with each that follows it, the p-values corrected for how many there are."""
    places = list(itertools.combinations(range(len(reports)), 2))
    found = [_compare(answers[first], answers[second]) for first, second in places]
    adjusted = iter(holm([comparison.p_value for comparison in found if comparison]))
    pairs = []
    for (first, second), uncorrected in zip(places, found, strict=True):
        comparison = uncorrected and replace(uncorrected, adjusted_p_value=next(adjusted))
        names = reports[first].name, reports[second].name
        seen = [reports[i].name for i in (first, second) if reports[i].seen]
        pairs.append(PairReport(*names, comparison, conclude(*names, comparison, pairs=len(places), seen=seen)))
    return tuple(pairs)


def _compare(first: Answers, second: Answers) -> Comparison | None:
    both = first.is_measured & second.is_measured
    return compare(first.is_right[both], second.is_right[both])


def _differing(stored: Sequence[StoredAnswers]) -> list[int]:
    """The images on which not all versions give the same answer; first those that some get right and some do
    not."""
    differing = [
        i for i, labels in enumerate(zip(*(s.labels for s in stored), strict=True)) if len(set(labels)) > 1
    ]
    right = np.stack([s.answers.is_right for s in stored]).sum(axis=0)
    return sorted(differing, key=lambda i: right[i] in (0, len(stored)))
