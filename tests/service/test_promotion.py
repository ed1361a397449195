"""Moving an alias under load: nothing is dropped, and labels of one version never meet scores of another."""

from pathlib import Path

import httpx
from support.colours import LABELS, picture
from support.load import Load
from support.stack import Stack

SECOND = ("rot", "grün", "blau")


def test_promoting_and_rolling_back_under_load_drops_and_mixes_nothing(stack: Stack) -> None:
    stack.publish("models/moving/1/", "moving")
    stack.publish("models/moving/2/", "moving", labels=SECOND)
    move(stack, 1)
    pictures = [picture(colour, noise=n + 1) for n, colour in enumerate(LABELS * 4)]
    with Load(stack.port, "/v1/models/moving@production/classify?top_k=3", pictures, at_once=6) as load:
        for version in (2, 1, 2, 1, 2, 1):
            move(stack, version)
            moved_at = len(load.replies)

            def is_served(version: int = version, since: int = moved_at) -> bool:
                served = [reply.body.get("version") for reply in load.replies[since:]]
                return served.count(version) >= 30

            stack.wait_until(is_served, f"version {version} to be served")
            # Requests that were under way at the move may have the old version, however late they are answered.
            served = [reply.body["version"] for reply in load.replies[moved_at:]]
            assert len(served) - served.count(version) <= load.at_once
    assert len(load.replies) == load.sent
    assert {reply.status for reply in load.replies} == {200}
    for reply in load.replies:
        names = {1: LABELS, 2: SECOND}[reply.body["version"]]
        (prediction,) = reply.body["predictions"]
        assert prediction["classes"][0]["label"] == names[reply.request % 3]
        assert [c["label"] for c in prediction["classes"]] == [names[c["index"]] for c in prediction["classes"]]


def test_a_version_that_cannot_be_loaded_is_not_promoted(stack: Stack) -> None:
    stack.publish("models/torn/1/", "torn")
    stack.publish("models/torn/2/", "torn")
    move(stack, 1, "torn")
    model = stack.folder / "blobs" / "models" / "torn" / "2" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-10])
    refused = httpx.put(f"{stack.url}/v1/models/torn/aliases/production", json={"version": 2}, timeout=20)
    assert (refused.status_code, refused.json()["code"]) == (409, "artifact_unusable")
    assert "model.onnx" in refused.json()["detail"]
    assert httpx.get(f"{stack.url}/v1/models/torn").json()["aliases"] == {"production": 1}


def test_while_the_files_are_away_a_move_is_put_off_and_not_refused(stack: Stack) -> None:
    stack.publish("models/away/1/", "away")
    blobs = stack.folder / "blobs"
    blobs.rename(stack.folder / "elsewhere")
    blobs.touch()
    try:
        answer = httpx.put(f"{stack.url}/v1/models/away/aliases/production", json={"version": 1}, timeout=20)
    finally:
        blobs.unlink()
        (stack.folder / "elsewhere").rename(blobs)
    assert (answer.status_code, answer.json()["code"]) == (503, "blobs_unavailable"), answer.text
    assert "Retry-After" in answer.headers
    move(stack, 1, "away")


def test_without_a_worker_an_alias_can_still_be_moved(tmp_path: Path) -> None:
    service = Stack(tmp_path)
    try:
        service.start("gateway")
        service.publish()
        move(service, 1, "colours")
    finally:
        service.stop()


def move(stack: Stack, version: int, model: str = "moving") -> None:
    answer = httpx.put(f"{stack.url}/v1/models/{model}/aliases/production", json={"version": version}, timeout=20)
    assert answer.status_code == 200, answer.text
