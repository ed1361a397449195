"""One inference of the protocol, whether it came by REST or by gRPC."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.batcher import VersionKey
from service.classification import Caller, classify
from service.errors import Problem, worker_problem
from service.exchange import ImageContent
from service.intake import SentImage
from service.lane import Answer
from service.parts import Parts
from service.protocol.request import InferRequest
from service.protocol.tensors import OutputTensor, output_tensors
from storage.registry import Version


@dataclass(frozen=True)
class Inference:
    """What a request is answered; `provider` and `precision` say how the network really ran."""

    version: Version
    id: str
    provider: str
    precision: str
    outputs: list[OutputTensor]


def contents(images: Sequence[SentImage]) -> list[ImageContent]:
    """What is classified. Raises the first image's problem: a tensor has no place for errors beside values."""
    for number, image in enumerate(images):
        if image.problem:
            raise _of_image(image.problem, number, len(images))
    return [image.content for image in images]


async def infer(
    parts: Parts,
    caller: Caller,
    version: Version,
    asked: InferRequest,
    images: Sequence[ImageContent],
    timeout_s: float | None = None,
) -> Inference:
    """The answer within `timeout_s`, the request's own timeout and the gateway's.

    Raises Problem, for a single image that fails too, and BrokerUnavailable.
    """
    key = VersionKey(
        version.model, version.number, version.artifact, asked.precision, asked.tensors, asked.prepared
    )
    answers = await classify(
        parts,
        caller,
        key,
        images,
        top_k=asked.top_k,
        timeout_s=min((limit for limit in (asked.timeout_s, timeout_s) if limit is not None), default=None),
        priority=asked.priority,
    )
    _require_all(answers)
    return Inference(version, asked.id, answers[0].provider, answers[0].precision, output_tensors(asked, answers))


def _require_all(answers: Sequence[Answer]) -> None:
    for number, answer in enumerate(answers):
        outcome = answer.outcome
        if outcome.error:
            raise _of_image(worker_problem(outcome.error, outcome.detail), number, len(answers))


def _of_image(problem: Problem, number: int, images: int) -> Problem:
    if images == 1:
        return problem
    detail = f"Element {number} of {images}: {problem.detail}"
    return Problem(problem.status, problem.code, detail, problem.headers)
