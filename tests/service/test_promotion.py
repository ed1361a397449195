"""Moving an alias under load: nothing is dropped, and labels of one version never meet scores of another."""

import threading
import time
from pathlib import Path

import httpx
from support.colours import LABELS, picture
from support.load import Reply, send_all
from support.stack import Stack

SECOND = ("rot", "grün", "blau")


def test_promoting_and_rolling_back_under_load_drops_and_mixes_nothing(stack: Stack) -> None:
    stack.publish("models/moving/1/", "moving")
    stack.publish("models/moving/2/", "moving", labels=SECOND)
    move(stack, 1)
    pictures = [(n, picture(colour, noise=n + 1)) for n, colour in enumerate(LABELS * 4)]
    replies: list[Reply] = []

    def load() -> None:
        path = "/v1/models/moving@production/classify?top_k=3"
        replies.extend(send_all(stack.port, path, [d for _, d in pictures], requests=1500, at_once=6))

    thread = threading.Thread(target=load)
    thread.start()
    moves = 0
    while thread.is_alive():
        move(stack, 2 if moves % 2 == 0 else 1)
        moves += 1
        time.sleep(0.15)
    thread.join()
    assert moves >= 4
    assert {reply.status for reply in replies} == {200}
    assert {reply.body["version"] for reply in replies} == {1, 2}
    for reply in replies:
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
