"""The messages between gateway and workers: their JSON is held, and what is none of them is refused."""

import json
from typing import Any

import pytest

from models.drift.sketch import Sketch
from workers.contract.messages import (
    BatchTimings,
    ClassifyBatch,
    ClassifyReply,
    ClassScore,
    Explain,
    Explanation,
    Heartbeat,
    ImageOutcome,
    InvalidMessage,
    RunJob,
    SimilarImage,
    UnknownScore,
    decode,
    encode,
)
from workers.contract.queues import QUEUE_OF_TASK, TASK_OF_JOB, JobKind, TaskName

CAT = ClassScore(0, "cat", 0.75)
SNAPSHOTS: list[tuple[Any, dict[str, Any]]] = [
    (Explain(3, "occlusion", overlay=True), {"index": 3, "method": "occlusion", "overlay": True}),
    (
        Explanation(
            ClassScore(1, "cat", 0.5),
            "cam",
            ((0.0, 1.0),),
            -1.0,
            2.0,
            "logit",
            40,
            30,
            (5.0, 0.0, 35.0, 30.0),
            (20.0, 0.0, 35.0, 30.0),
        ),
        {
            "explained": {"index": 1, "label": "cat", "probability": 0.5},
            "method": "cam",
            "rows": [[0.0, 1.0]],
            "low": -1.0,
            "high": 2.0,
            "unit": "logit",
            "width": 40,
            "height": 30,
            "region": [5.0, 0.0, 35.0, 30.0],
            "box": [20.0, 0.0, 35.0, 30.0],
            "overlay": None,
        },
    ),
    (
        ClassifyBatch("b1", "reply", "cats", 3, "models/cats/j1/", ("i1", "i2"), ("r1",), 5, 20.5, 10.5),
        {
            "batch": "b1",
            "reply_to": "reply",
            "model": "cats",
            "version": 3,
            "artifact": "models/cats/j1/",
            "images": ["i1", "i2"],
            "request_ids": ["r1"],
            "top_k": 5,
            "deadline": 20.5,
            "sent_at": 10.5,
            "traceparent": None,
            "after_death": False,
            "precision": "",
            "server": "",
            "outputs": [],
            "prepared": False,
            "coverage": None,
            "similar": 0,
            "explain": None,
        },
    ),
    (
        ClassifyReply(
            "b1",
            "w1",
            "CPUExecutionProvider",
            (
                ImageOutcome(
                    (CAT,),
                    outputs={"logits": "AACAPw=="},
                    unknown=UnknownScore(1.5, None, None),
                    prediction_set=(CAT,),
                    similar=(SimilarImage("ab" * 32, "cat", 0.125),),
                ),
                ImageOutcome(error="image_unreadable", detail="why"),
            ),
            BatchTimings(1.0, 2.0, 3.0, 4.0),
            sketch=Sketch(2, ((1, 1), (2, 0)), (0.5, -0.25)),
        ),
        {
            "batch": "b1",
            "worker": "w1",
            "provider": "CPUExecutionProvider",
            "outcomes": [
                {
                    "classes": [{"index": 0, "label": "cat", "probability": 0.75}],
                    "error": None,
                    "detail": None,
                    "outputs": {"logits": "AACAPw=="},
                    "unknown": {"score": 1.5, "threshold": None, "is_unknown": None},
                    "prediction_set": [{"index": 0, "label": "cat", "probability": 0.75}],
                    "similar": [{"sha256": "ab" * 32, "label": "cat", "distance": 0.125}],
                    "explanation": None,
                },
                {
                    "classes": [],
                    "error": "image_unreadable",
                    "detail": "why",
                    "outputs": None,
                    "unknown": None,
                    "prediction_set": None,
                    "similar": None,
                    "explanation": None,
                },
            ],
            "timings": {"queue_ms": 1.0, "fetch_ms": 2.0, "decode_ms": 3.0, "inference_ms": 4.0},
            "error": None,
            "detail": None,
            "precision": "float32",
            "sketch": {"images": 2, "counts": [[1, 1], [2, 0]], "embedding": [0.5, -0.25]},
        },
    ),
    (RunJob("job_1"), {"job": "job_1"}),
    (
        Heartbeat("w1", ("training",), 1, "auto", ("CPUExecutionProvider",), ("models/cats/j1/",), 5.0),
        {
            "worker": "w1",
            "queues": ["training"],
            "slots": 1,
            "device": "auto",
            "providers": ["CPUExecutionProvider"],
            "models": ["models/cats/j1/"],
            "started_at": 5.0,
            "disk_free_bytes": None,
        },
    ),
]
MESSAGES = pytest.mark.parametrize(("message", "wire"), SNAPSHOTS, ids=[type(m).__name__ for m, _ in SNAPSHOTS])


@MESSAGES
def test_a_message_has_the_json_that_older_processes_know(message: Any, wire: dict[str, Any]) -> None:
    assert json.loads(json.dumps(encode(message))) == wire


@MESSAGES
def test_a_message_survives_the_wire(message: Any, wire: dict[str, Any]) -> None:
    assert decode(type(message), wire) == message


@MESSAGES
def test_a_newer_senders_fields_are_ignored(message: Any, wire: dict[str, Any]) -> None:
    assert decode(type(message), {**wire, "added_later": [1, {"x": 2}]}) == message


def test_an_older_senders_message_gets_defaults() -> None:
    assert decode(ClassifyReply, {"batch": "b", "worker": "w"}) == ClassifyReply("b", "w")
    assert decode(Heartbeat, {"worker": "w", "queues": [], "slots": 1}).providers == ()


def test_every_task_has_a_queue_and_every_job_a_task() -> None:
    assert set(QUEUE_OF_TASK) == set(TaskName)
    assert set(TASK_OF_JOB) == set(JobKind)


@pytest.mark.parametrize(
    "payload", [b"5", b"null", b"{", b"\xff", b"{}", b'{"batch": {}, "worker": "w"}', {"batch": 5}]
)
def test_what_is_no_message_is_refused_by_the_field_that_is_wrong(payload: Any) -> None:
    with pytest.raises(InvalidMessage, match=r"^ClassifyReply: (batch|the message): "):
        decode(ClassifyReply, payload)


@MESSAGES
def test_json_text_is_read_as_well(message: Any, wire: dict[str, Any]) -> None:
    assert decode(type(message), json.dumps(wire).encode()) == message
