"""`POST /v1/finetunes`: start to learn a dataset's classes."""

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from service.auth import requires
from service.checks import check_architecture, check_dataset, check_weights
from service.idempotency import idempotency
from service.parts import parts_of
from service.routes.jobs import accepted, start_job
from service.schemas.jobs import JobAccepted
from workers.contract.jobs.finetune import FinetuneRequest
from workers.contract.queues import JobKind

router = APIRouter(tags=["fine-tunes"], dependencies=[Depends(requires("train"))])


@router.post("/v1/finetunes", summary="Start a fine-tune", status_code=202, response_model=JobAccepted)
async def start(request: Request, body: FinetuneRequest) -> JSONResponse:
    """A `finetune` job: watch it under `/v1/jobs/{id}/events`; its result names the new version."""
    parts = parts_of(request)
    check_architecture(body.architecture, body.architecture_params)
    await check_weights(parts, body.architecture, body.weights)
    dataset = await check_dataset(parts, body.dataset)
    asked = body.model_copy(update={"dataset": dataset}).model_dump()
    job = await start_job(request, JobKind.FINETUNE, asked, await idempotency(request))
    return accepted(job, warnings=warnings_of(body))


def warnings_of(request: FinetuneRequest) -> list[str]:
    """What will be done, but may not be what was meant."""
    if request.weights == "none" and request.strategy in ("head", "partial"):
        return [
            f"strategy: {request.strategy} needs weights to start from; with weights none every layer is trained, "
            "as with full."
        ]
    return []
