"""`/v1/evaluations`: how good versions are on labelled images, and which of them is better, measured by a job."""

import asyncio
import difflib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from models.dataset import builtin
from models.validation import shortened
from service.auth import requires
from service.browsers import NOTHING
from service.checks import check_dataset, wrong_field
from service.classification import asked_precision
from service.errors import Problem
from service.idempotency import idempotency
from service.parts import Parts, parts_of
from service.routes.jobs import accepted, existing_job, start_job
from service.schemas.content import content
from service.schemas.evaluations import EvaluationOut
from service.schemas.jobs import JobAccepted
from storage.datasets import Dataset, DatasetState
from storage.errors import NotFound
from storage.job import Job, JobState
from storage.registry import Version
from workers.contract.evaluations import CARD_HTML, CARD_MARKDOWN, REPORT, report_key
from workers.contract.jobs.evaluate import EvaluatedVersion, EvaluateOptions, EvaluateRequest
from workers.contract.queues import JobKind

router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"], dependencies=[Depends(requires("classify"))])

# Each goes on where the one before ended.
ATTEMPTS = 10
SHOWN = 3


@router.post(
    "",
    summary="Measure versions on labelled images",
    status_code=202,
    response_model=JobAccepted,
    dependencies=[Depends(requires("train"))],
)
async def start(request: Request, body: EvaluateOptions) -> JSONResponse:
    """An `evaluate` job: each version classifies the same images of a dataset, whose labels are the version's by
    name. Its result has the figures, `/v1/evaluations/{job_id}` all of them, and a card."""
    parts = parts_of(request)
    versions = [await parts.versions.resolve(reference) for reference in body.models]
    _check_distinct(body.models, versions)
    precisions = {asked_precision(version, body.precision) for version in versions}
    dataset = await check_dataset(parts, body.dataset)
    if dataset not in builtin.NAMES:
        found = await asyncio.to_thread(parts.datasets.get, dataset)
        # Of one that is being checked neither labels nor images are known yet: the job tells.
        if found.state is not DatasetState.CHECKING:
            _check_split(found, body.split)
            for version in versions:
                await asyncio.to_thread(_check_labels, found, version)
    asked = EvaluateRequest(
        models=tuple(
            EvaluatedVersion(model=version.model, version=version.number, reference=reference)
            for reference, version in zip(body.models, versions, strict=True)
        ),
        dataset=dataset,
        split=body.split,
        precision=precisions.pop(),
    )
    key = await idempotency(request)
    return accepted(await start_job(request, JobKind.EVALUATE, asked.model_dump(), key, max_attempts=ATTEMPTS))


async def ended_evaluation(job: Annotated[Job, Depends(existing_job)]) -> Job:
    """Raises Problem 404 for a job of another kind, 409 for one without a report."""
    if job.kind != JobKind.EVALUATE:
        raise Problem(404, "unknown_evaluation", f"Job {job.id} is a {job.kind} job, and no evaluation.")
    if job.state is JobState.SUCCEEDED:
        return job
    if job.state.is_terminal:
        why = f": {job.error['detail']}" if job.error else "."
        raise Problem(409, "evaluation_incomplete", f"Evaluation {job.id} {job.state}{why}")
    detail = f"Evaluation {job.id} is {job.state}; wait for its end."
    raise Problem(409, "evaluation_incomplete", detail, {"Retry-After": "1"})


Ended = Annotated[Job, Depends(ended_evaluation)]


@router.get("/{job_id}", summary="All figures of an evaluation", response_model=EvaluationOut)
async def report(request: Request, job: Ended) -> Response:
    """Each version by class, its confusions, calibration and most confident mistakes; each pair; and the images on
    which they differ, of which `/v1/jobs/{job_id}/results` has all."""
    found = orjson.loads(await _file(parts_of(request), job, REPORT))
    return Response(orjson.dumps({"job": job.id, **found}), media_type="application/json")


@router.get(
    "/{job_id}/card",
    summary="An evaluation as a page",
    response_class=HTMLResponse,
    responses=content("text/html", "text/markdown"),
)
async def card(
    request: Request, job: Ended, form: Annotated[Literal["html", "md"], Query(alias="format")] = "html"
) -> Response:
    if form == "md":
        return Response(await _file(parts_of(request), job, CARD_MARKDOWN), media_type="text/markdown")
    # As of a version's card: nothing in it runs, and nothing is loaded.
    policy = f"{NOTHING}; img-src data:; style-src 'unsafe-inline'; sandbox"
    written = await _file(parts_of(request), job, CARD_HTML)
    return Response(written, media_type="text/html", headers={"Content-Security-Policy": policy})


async def _file(parts: Parts, job: Job, name: str) -> bytes:
    try:
        return await asyncio.to_thread(parts.blobs.get_bytes, report_key(job.id, name))
    except NotFound as missing:
        raise Problem(404, "unknown_evaluation", f"The report of evaluation {job.id} is gone.") from missing


def _check_distinct(references: Sequence[str], versions: Sequence[Version]) -> None:
    """Raises Problem 422 where two references name the same version: it would be compared with itself."""
    named: dict[tuple[str, int], str] = {}
    for reference, version in zip(references, versions, strict=True):
        other = named.setdefault((version.model, version.number), reference)
        if other is not reference:
            same = f"{shortened(other)} and {shortened(reference)} both name {version.model}:{version.number}"
            raise wrong_field("models", f"{same}; name each version once")


def _check_split(dataset: Dataset, split: str) -> None:
    """Raises Problem 422 where the dataset was uploaded without such a split."""
    if split in ("unseen", "all"):
        return
    counts: Counter[str] = Counter()
    for by_split in dataset.counts.values():
        counts.update(by_split)
    names = {"val": "validation", "all": None}
    has = [names.get(name, name) for name in counts]
    if split not in has:
        there = ", ".join(name for name in has if name) or "none"
        raise wrong_field(
            "split",
            f"the dataset was sent without a {split} split (it has: {there}); `unseen` are the images that no "
            "version is known to have learnt from, `all` are all",
        )


def _check_labels(dataset: Dataset, version: Version) -> None:
    """Raises Problem 422 where the version knows none of the dataset's labels."""
    if set(dataset.labels) & set(version.labels):
        return
    near = _nearest(dataset.labels, version.labels)
    hint = (
        f"; {shortened(near[0])!r} and {shortened(near[1])!r} are nearest, but names have to be equal"
        if near
        else ""
    )
    raise wrong_field(
        "dataset",
        f"none of its labels ({_some(dataset.labels)}) is one of {version.model}:{version.number}'s "
        f"({_some(version.labels)}){hint}",
    )


def _nearest(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, str] | None:
    """A label of ours and one of theirs that differ least, first of all by their capitals; None where none is
    near.

    Looked for among our first few, for there may be many thousands.
    """
    folded = {label.casefold(): label for label in theirs}
    for label in ours:
        if label.casefold() in folded:
            return label, folded[label.casefold()]
    for label in ours[:SHOWN]:
        for near in difflib.get_close_matches(label.casefold(), folded, n=1):
            return label, folded[near]
    return None


def _some(labels: Sequence[str]) -> str:
    return ", ".join(map(shortened, labels[:SHOWN])) + (", ..." if len(labels) > SHOWN else "")
