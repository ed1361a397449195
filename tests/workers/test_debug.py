"""What Flower is built on: Celery's events and commands, of a real worker that was told to give them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.colours import picture
from support.stack import Stack, running_stack

from workers.celery_app import make_celery


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Stack]:
    with running_stack(tmp_path, {"FOVEA_TASK_EVENTS": "true"}) as service:
        yield service


def test_a_task_is_seen_and_a_worker_answers(watched: Stack) -> None:
    app = make_celery(watched.redis.url, role="debug", events=True)
    seen: list[dict[str, Any]] = []

    def done() -> bool:
        return any(event["type"] == "task-succeeded" for event in seen)

    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        watching = threading.Thread(
            target=lambda: any(done() for _ in receiver.itercapture(timeout=20)), daemon=True
        )
        watching.start()
        watched.wait_until(lambda: bool(seen), "the first event", 10)
        answer = httpx.post(
            f"{watched.url}/v1/models/colours/classify",
            content=picture("red"),
            headers={"content-type": "image/png"},
            timeout=20,
        )
        assert answer.status_code == 200
        watched.wait_until(done, "the task's event", 10)
        watching.join(10)
    assert {"task-received", "task-started", "task-succeeded"} <= {event["type"] for event in seen}
    assert [event["name"] for event in seen if event["type"] == "task-received"] == ["inference.classify_batch"]

    def names() -> list[str]:
        return sorted(name.partition("@")[0] for reply in app.control.ping(timeout=3) for name in reply)

    # Its bulk process may still be starting.
    watched.wait_until(lambda: names() == ["bulk-inference", "inference"], "both processes to answer", 30)
