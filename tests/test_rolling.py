"""Two gateways and two workers restarted in turn under load: nobody is without an answer."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import pytest
from support.colours import picture
from support.stack import Stack

pytestmark = pytest.mark.slow
PATH = "/v1/models/colours/classify"
PNG = {"content-type": "image/png"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path, {"FOVEA_DRAIN_S": "6"})
    try:
        stack.redis.start()
        stack.prepare()
        stack.hold_port()
        for name in ("gateway-1", "gateway-2", "inference-1", "inference-2"):
            stack.start_process(name)
        stack.wait_until(lambda: has_started(stack, "gateway-1") and has_started(stack, "gateway-2"), "gateways")
        stack.wait_until(lambda: stack.workers() == 2, "the workers")
        stack.publish()
        yield stack
    finally:
        stack.stop()


def has_started(stack: Stack, name: str, times: int = 1) -> bool:
    return stack.log(name).count("Application startup complete") == times


@dataclass
class Clients:
    """Clients that send nothing twice: some keep their connection, the others open one for each image."""

    url: str
    kept: int = 2
    fresh: int = 2
    outcomes: Counter[str] = field(default_factory=Counter)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._threads = [
            threading.Thread(target=self._send, args=(number < self.kept,))
            for number in range(self.kept + self.fresh)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, keep: bool) -> None:
        image = picture("red")
        headers = PNG if keep else {**PNG, "connection": "close"}
        with httpx.Client(base_url=self.url, timeout=100, headers=headers) as client:
            while not self._over.is_set():
                try:
                    answer = client.post(PATH, content=image)
                    self.outcomes[str(answer.status_code)] += 1
                except httpx.TransportError as error:
                    self.outcomes[repr(error)] += 1
                self._over.wait(0.01)


@pytest.mark.timeout(600)
def test_no_request_is_lost_while_each_is_restarted_in_turn(service: Stack) -> None:
    with Clients(service.url) as clients:
        for times in (2, 3):
            for name in ("gateway-1", "gateway-2"):
                go_on(service, clients)
                assert stop(service, name) == 0
                service.start_process(name)
                service.wait_until(lambda name=name, times=times: has_started(service, name, times), name)
            for name in ("inference-1", "inference-2"):
                go_on(service, clients)
                assert stop(service, name) == 0
                service.start_process(name)
                service.wait_until(lambda: service.workers() == 2, name)
        go_on(service, clients)

    assert set(clients.outcomes) == {"200"}, clients.outcomes
    assert "Traceback" not in "".join(service.log(name) for name in service.processes)


def stop(service: Stack, name: str) -> int:
    process = service.processes.pop(name)
    process.send_signal(signal.SIGTERM)
    return process.wait(60)


def go_on(service: Stack, clients: Clients, answers: int = 50) -> None:
    """Until so many more were answered."""
    enough = clients.outcomes.total() + answers
    service.wait_until(lambda: clients.outcomes.total() >= enough, f"{answers} answers")
