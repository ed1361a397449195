"""Two gateways and two workers restarted in turn under load: nobody is without an answer."""

import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import pytest
from support.colours import picture
from support.stack import Stack, free_port

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
PATH = "/v1/models/colours/classify"
PNG = {"content-type": "image/png"}


@dataclass
class Entrance:
    """The one address of two gateways, and how each is started behind it."""

    stack: Stack
    url: str
    ports: dict[str, int] = field(default_factory=dict)

    def start(self, name: str) -> None:
        own, self.stack.port = self.stack.port, self.ports.get(name, self.stack.port)
        self.stack.start_process(name)
        self.stack.port = own


@contextmanager
def one_socket(stack: Stack, _folder: Path) -> Iterator[Entrance]:
    """Held by whoever starts the gateways, as `fovea up` and systemd do."""
    stack.hold_port()
    yield Entrance(stack, stack.url)


@contextmanager
def a_proxy(stack: Stack, folder: Path) -> Iterator[Entrance]:
    """That of docker-compose.yml, which finds the gateways by names of the engine."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if not program:
        pytest.skip("nginx is not installed (Debian: nginx)")
    ports = {"gateway-1": free_port(), "gateway-2": free_port()}
    servers = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports.values())
    conf = (ROOT / "docker/proxy/compose.conf").read_text()
    for here, there in (
        ("/tmp/", f"{folder}/"),
        ("resolver 127.0.0.11 valid=1s ipv6=off;", f"upstream gateways {{ {servers} }}"),
        ("http://$gateway:8000", "http://gateways"),
        ("listen 8000;", f"listen 127.0.0.1:{stack.port};"),
        ("worker_processes auto;", "daemon off; user root;"),
    ):
        assert here in conf
        conf = conf.replace(here, there)
    (folder / "nginx.conf").write_text(conf)
    nginx = subprocess.Popen([program, "-c", folder / "nginx.conf"])
    try:
        yield Entrance(stack, stack.url, ports)
    finally:
        nginx.terminate()
        nginx.wait(20)


@pytest.fixture(params=[one_socket, a_proxy])
def entrance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Entrance]:
    stack = Stack(tmp_path, {"FOVEA_DRAIN_S": "6"})
    try:
        stack.redis.start()
        stack.prepare()
        with request.param(stack, tmp_path) as made:
            for name in ("gateway-1", "gateway-2", "inference-1", "inference-2"):
                made.start(name)
            for name in ("gateway-1", "gateway-2"):
                stack.wait_until(lambda name=name: has_started(stack, name), name)
            stack.wait_until(lambda: stack.workers() == 2, "the workers")
            stack.publish()
            yield made
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
def test_no_request_is_lost_while_each_is_restarted_in_turn(entrance: Entrance) -> None:
    service = entrance.stack
    with Clients(entrance.url) as clients:
        for times in (2, 3):
            for name in ("gateway-1", "gateway-2"):
                go_on(service, clients)
                assert stop(service, name) == 0
                entrance.start(name)
                service.wait_until(lambda name=name, times=times: has_started(service, name, times), name)
            for name in ("inference-1", "inference-2"):
                go_on(service, clients)
                assert stop(service, name) == 0
                entrance.start(name)
                service.wait_until(lambda: service.workers() == 2, name)
        go_on(service, clients)

    print(clients.outcomes)
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
