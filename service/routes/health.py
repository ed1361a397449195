"""`/livez`, `/readyz`, `/metrics`: what an orchestrator and Prometheus ask."""

import asyncio
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from service.auth import may_read_metrics
from service.errors import WORDS, problem_of
from service.exchange import BrokerUnavailable
from service.parts import Parts, parts_of
from service.schemas.health import Readiness
from storage.errors import StorageError
from workers.contract.queues import Queue

router = APIRouter(tags=["health"])
log = structlog.get_logger()
ROLES = frozenset({"inference", "training"})
# What makes the name of a worker's process its own.
DRAWN = re.compile("[0-9a-f]{6}")
NO_TRANSIT = "The Redis of images and replies cannot be reached."


@router.get("/livez", summary="The gateway's process answers")
async def livez() -> dict[str, str]:
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Everything a request needs is there, and what each worker really runs",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Something is missing."}},
)
async def readyz(request: Request) -> JSONResponse:
    """200 when database, broker and a worker of each kind answer; else 503, what is missing and in which way.

    Of several transit servers (Redis of images and replies) one is enough; `transit.servers` names each.

    A gateway that is about to end is `draining`, 503 too, although it still answers: send elsewhere.

    Where the missing part should be, and on which host a worker runs, is for the log: no key is needed here.
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
        "transit": _transit(parts.workforce.answering),
        "workers": [
            {
                "worker": public_name(worker.worker),
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


@router.get(
    "/metrics",
    summary="Prometheus' text format",
    response_class=PlainTextResponse,
    dependencies=[Depends(may_read_metrics)],
)
async def metrics(request: Request) -> Response:
    """Every metric of this gateway, its workers, its queues and its jobs."""
    parts = parts_of(request)
    found = parts.metrics
    found.set_queue_stats(await parts.stats.collect())
    found.set_transit(parts.workforce.answering)
    found.set_workers(parts.workforce.workers)
    found.waiting.set(parts.batcher.waiting)
    return Response(found.exposition(), media_type=CONTENT_TYPE_LATEST)


def public_name(worker: str) -> str:
    """`inference@HOST:PROCESS:3f2a91` without host and process: what is left still tells workers apart."""
    role, _, rest = worker.partition("@")
    drawn = rest.rpartition(":")[2]
    if not DRAWN.fullmatch(drawn):
        drawn = hashlib.sha256(worker.encode()).hexdigest()[:6]
    return f"{role if role in ROLES else 'worker'}@{drawn}"


def _transit(answering: Mapping[int, bool]) -> dict[str, Any]:
    """There as long as one of the servers answers; of several, each by its place in the setting."""
    found: dict[str, Any] = {"ok": True} if any(answering.values()) else {"ok": False, "reason": NO_TRANSIT}
    if len(answering) > 1:
        found["servers"] = [{"server": number, "ok": is_up} for number, is_up in answering.items()]
        if away := [number for number, is_up in answering.items() if not is_up]:
            found["reason"] = f"Of {len(answering)} servers cannot be reached: {', '.join(map(str, away))}."
    return found


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
