"""What a version has done, by requests and by batches."""

import pytest

from service.batcher import VersionKey
from service.lane import Answer
from service.protocol import statistics
from service.protocol.statistics import Statistics
from workers.contract.messages import BatchTimings, ImageOutcome

CATS = VersionKey("cats", 1, "models/cats/1/")


def answer(error: str | None = None, *, waited_ms: float = 1.0) -> Answer:
    timings = BatchTimings(queue_ms=2.0, fetch_ms=3.0, decode_ms=4.0, inference_ms=5.0)
    return Answer(ImageOutcome(error=error), "CPUExecutionProvider", "float32", timings, waited_ms, 2)


def test_a_request_is_told_by_its_slowest_image_and_the_rest_until_its_answer() -> None:
    found = Statistics()
    found.record_answers(CATS, [answer(), answer(waited_ms=6.0)], 0.030)
    told = found.of("cats", 1).to_dict()
    assert told["inference_count"] == 2
    assert {stage: told["inference_stats"][stage]["ns"] for stage in told["inference_stats"]} == {
        "success": 30_000_000,
        "fail": 0,
        "queue": 8_000_000,
        "compute_input": 7_000_000,
        "compute_infer": 5_000_000,
        "compute_output": 10_000_000,
        "cache_hit": 0,
        "cache_miss": 0,
    }


def test_a_request_with_a_bad_image_fails_and_its_good_ones_count() -> None:
    found = Statistics()
    found.record_answers(CATS, [answer(), answer("image_unreadable")], 0.01)
    found.record_failure(CATS, 30.0)
    told = found.of("cats", 1)
    assert (told.inference_count, told.success.count, told.fail.count, told.fail.ns) == (1, 0, 2, 30_010_000_000)
    assert told.last_inference == 0


def test_batches_are_told_by_their_size() -> None:
    found = Statistics()
    for images in (1, 8, 1):
        found.record_batch(CATS, images, BatchTimings(1.0, 2.0, 3.0, 4.0))
    told = found.of("cats", 1).to_dict()
    assert told["execution_count"] == 3
    assert [(batch["batch_size"], batch["compute_infer"]) for batch in told["batch_stats"]] == [
        (1, {"count": 2, "ns": 8_000_000}),
        (8, {"count": 1, "ns": 4_000_000}),
    ]


def test_of_too_many_versions_the_one_that_was_used_longest_ago_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "MOST_VERSIONS", 2)
    found = Statistics()
    for model in ("cats", "dogs", "cats", "birds"):
        found.record_batch(VersionKey(model, 1, ""), 1, BatchTimings())
    assert [model for (model, _), _ in found.all()] == ["birds", "cats"]
