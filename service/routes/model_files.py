"""`POST /v1/models/{name}/versions` with a form: a model file of one's own, an ONNX graph or a checkpoint.

The same call takes JSON for weights of the zoo (`service.routes.models`), where both are described.
"""

import asyncio
import hashlib

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from models.errors import UploadFactsMissing
from models.uploaded.facts import IMAGENET, check_labels
from models.uploaded.kind import ONNX, ONNX_ARCHITECTURE, UPLOADED
from models.validation import InvalidField, InvalidFields
from service.auth import key_of, requires
from service.checks import check_architecture
from service.errors import Problem, invalid_request
from service.idempotency import idempotency_of
from service.model_uploads import ModelUpload, received_model
from service.parts import Parts, parts_of
from service.routes.jobs import accepted, create_job
from storage.errors import DatabaseUnavailable
from storage.ids import new_id
from storage.job import Job
from storage.reference import check_model_name
from system.hidden import hidden_character
from workers.contract.jobs.model_file import UploadedFile, UploadOptions
from workers.contract.jobs.publish import PublishRequest
from workers.contract.queues import JobKind


class FileRoute(APIRoute):
    """A route for bodies that are not JSON; what is, or says nothing of itself, is for the route after it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        content_type = Headers(scope=scope).get("content-type", "") if match is Match.FULL else ""
        kind = content_type.partition(";")[0].strip().lower()
        return (match, child) if kind and not kind.endswith(("/json", "+json")) else (Match.NONE, {})


router = APIRouter(
    prefix="/v1/models",
    tags=["models"],
    dependencies=[Depends(requires("train"))],
    route_class=FileRoute,
    include_in_schema=False,
)


@router.post("/{name}/versions", status_code=202)
async def publish_file(request: Request, name: str) -> JSONResponse:
    """A `publish` job: the file is checked, made the artifact's graph, proven equal to itself, and served."""
    parts = parts_of(request)
    check_model_name(name)
    with parts.uploads.one(key_of(request)):
        async with received_model(request, parts.settings.uploads, parts.settings.max_model_bytes) as upload:
            check_options(upload.kind, upload.options)
            return accepted(await _keep(parts, request, name, upload))


def check_options(kind: str, options: UploadOptions) -> None:
    """Raises UnknownArchitecture, and Problem 422 for what such a file cannot have or cannot do without."""
    if kind == ONNX:
        if options.architecture is not None or options.architecture_params:
            raise _wrong("architecture", "an ONNX file holds its network itself; leave it out")
    else:
        if options.architecture is None:
            raise _wrong(
                "architecture",
                "a checkpoint holds tensors and not their network; name the network, as /v1/architectures has it, "
                'for instance "resnet18" or "timm/convnext_tiny"',
            )
        check_architecture(options.architecture, options.architecture_params)
        for field in ("output", "values"):
            if getattr(options, field) is not None:
                raise _wrong(field, "this is for ONNX files; leave it out with a checkpoint")
        if options.labels is None:
            raise _wrong(
                "labels",
                "a checkpoint has no names of classes; give a list in the order of its outputs, or "
                '"imagenet" where they are ImageNet\'s 1000',
            )
    for field in ("licence", "trained_on"):
        if hidden := hidden_character(getattr(options, field) or ""):
            raise _wrong(field, f"it holds a character that is not seen, {hidden}")
    if options.labels not in (None, IMAGENET):
        try:
            check_labels(tuple(options.labels or ()))
        except UploadFactsMissing as error:
            raise _wrong(*_field_and_message(error)) from error


async def _keep(parts: Parts, request: Request, name: str, upload: ModelUpload) -> Job:
    """Keep the file as a blob, write the job that publishes it, and send it."""
    job_id = new_id("job")
    key = f"jobs/{job_id}/upload"
    options = upload.options
    facts = options.model_dump(exclude={"architecture", "architecture_params", "promote"})
    asked = PublishRequest(
        model=name,
        architecture=options.architecture or ONNX_ARCHITECTURE,
        architecture_params=options.architecture_params,
        weights=UPLOADED,
        promote=options.promote,
        upload=UploadedFile(
            **facts, key=key, name=upload.name, kind=upload.kind, sha256=upload.sha256, size_bytes=upload.size
        ),
    ).model_dump(mode="json")
    # A form's boundary is another one each time it is sent, so that what it holds is compared instead.
    sent = orjson.dumps([upload.sha256, options.model_dump(mode="json")], option=orjson.OPT_SORT_KEYS)
    idempotency = idempotency_of(request, hashlib.sha256(sent).hexdigest())
    await asyncio.to_thread(parts.blobs.put_file, key, upload.path)
    try:
        job = await create_job(request, JobKind.PUBLISH, asked, idempotency, job_id)
    except DatabaseUnavailable:
        # The commit may have arrived although its answer did not: then the job needs the file, and if it did not,
        # the clean-up deletes it.
        raise
    except Exception:
        await asyncio.to_thread(parts.blobs.delete, key)
        raise
    if job.id == job_id:
        await parts.dispatcher.dispatch(job)
    else:
        # A repeated request: the first one's job has its own.
        await asyncio.to_thread(parts.blobs.delete, key)
    return job


def _field_and_message(error: UploadFactsMissing) -> tuple[str, str]:
    field, _, message = str(error).partition(": ")
    return field, message


def _wrong(field: str, message: str) -> Problem:
    return invalid_request(InvalidFields((InvalidField(f"options.{field}", message),)))
