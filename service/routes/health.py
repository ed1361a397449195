"""`/livez`, `/readyz`, `/metrics`: what an orchestrator and Prometheus ask."""

import asyncio
from typing import Any

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from service.auth import may_read_metrics
from service.errors import WORDS, problem_of
from service.exchange import BrokerUnavailable
from service.parts import Parts, parts_of
from storage.errors import StorageError
from workers.contract.queues import Queue

router = APIRouter(tags=["health"])
log = structlog.get_logger()
NO_TRANSIT = "The Redis of images and replies cannot be reached."


@router.get("/livez", summary="The gateway's process answers")
async def livez() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz", summary="Everything a request needs is there, and what each worker really runs")
async def readyz(request: Request) -> JSONResponse:
    """200 when database, broker and a worker of each kind answer; else 503, what is missing and in which way.

    A gateway that is about to end is `draining`, 503 too, although it still answers: send elsewhere.

    Where the missing part should be is for the log: no key is needed here.
    """
    parts = parts_of(request)
    await parts.workforce.refresh()
    database, broker = await asyncio.gather(_database(parts), asyncio.to_thread(_broker, parts))
    missing = [
        *(["database"] if not database["ok"] else []),
        *(["broker"] if not broker["ok"] else []),
        *(["transit"] if not parts.workforce.reachable else []),
        *(["inference"] if not parts.workforce.on(Queue.INTERACTIVE) else []),
        *(["training"] if not parts.workforce.on(Queue.TRAINING) else []),
    ]
    body = {
        "status": "draining" if parts.draining.has_begun else "starting" if missing else "ready",
        "missing": missing,
        "database": database,
        "broker": broker,
        "transit": {"ok": True} if parts.workforce.reachable else {"ok": False, "reason": NO_TRANSIT},
        "workers": [
            {
                "worker": worker.worker,
                "queues": worker.queues,
                "device": worker.device,
                "providers": worker.providers,
                "slots": worker.slots,
                "models": worker.models,
                "started_at": worker.started_at,
            }
            for worker in parts.workforce.workers
        ],
    }
    return JSONResponse(body, 200 if body["status"] == "ready" else 503)


@router.get("/metrics", summary="Prometheus' text format", dependencies=[Depends(may_read_metrics)])
async def metrics(request: Request) -> Response:
    """Every metric of this gateway, its workers, its queues and its jobs."""
    parts = parts_of(request)
    found = parts.metrics
    found.set_queue_stats(await parts.stats.collect())
    found.set_workers(parts.workforce.workers, reachable=parts.workforce.reachable)
    found.waiting.set(parts.batcher.waiting)
    return Response(found.exposition(), media_type=CONTENT_TYPE_LATEST)


async def _database(parts: Parts) -> dict[str, Any]:
    try:
        await asyncio.to_thread(parts.database.check_tables)
    except StorageError as error:
        log.warning("database.not_ready", reason=str(error))
        return {"ok": False, "reason": problem_of(error).detail}
    return {"ok": True}


def _broker(parts: Parts) -> dict[str, Any]:
    found = parts.dispatcher.ping()
    if found["ok"]:
        return found
    log.warning("broker.not_ready", reason=found["reason"])
    return {"ok": False, "reason": WORDS[BrokerUnavailable]}
