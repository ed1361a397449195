"""Commands against a real gateway (with its Redis and database, but no worker), and against what is none."""

import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served import served
from support.stack import Stack

from cli.connection import connect
from cli.up.address import claim_port, local_url
from cli.up.data_folder import claim_data_folder
from cli.up.launch import UpOptions, child_environment, children, database_child, plan_brokers
from cli.up.readiness import parts_not_ready, read_readiness, working_children
from cli.up.starter import REQUEST
from fovea_client import Fovea, Unreachable


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway as `fovea up` starts it, alone."""
    with (
        tempfile.TemporaryDirectory(prefix="fovea-test-") as temporary,
        claim_data_folder(Path(temporary) / "data") as folder,
    ):
        options = UpOptions(folder.path, port=claim_port("127.0.0.1", 0))
        brokers = plan_brokers(folder, None)
        environment = {**os.environ, **child_environment(options, folder, brokers)}
        subprocess.run(database_child(environment, with_keys=False).command, env=environment, check=True)
        commands = [*(server.command for server in brokers.servers), children(environment, ())[0].command]
        processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
            for command in commands
        ]
        try:
            address = local_url("127.0.0.1", options.port)
            _await_gateway(address)
            yield address
        finally:
            for process in reversed(processes):
                process.send_signal(signal.SIGTERM)
                process.wait(10)


def _await_gateway(url: str) -> None:
    deadline = time.monotonic() + 60
    with connect(url) as client:
        while working_children(read_readiness(client)) != ("gateway",):
            assert time.monotonic() < deadline, "the gateway did not start"
            time.sleep(0.1)


@pytest.fixture
def client(url: str) -> Iterator[Fovea]:
    with connect(url) as client:
        yield client


def test_readiness_says_what_is_awaited(client: Fovea) -> None:
    answer = client.readiness()
    assert answer.database.ok
    assert answer.broker.ok
    assert parts_not_ready(answer) == ("inference", "training")


def test_no_proxy_of_the_environment_comes_between(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with connect(url) as client:
        assert parts_not_ready(client.readiness()) == ("inference", "training")


def test_the_url_of_the_environment_is_used(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_URL", url + "/")
    with connect() as client:
        assert client.url == url


def test_where_nothing_answers_the_way_out_is_named_at_once() -> None:
    nowhere = f"http://127.0.0.1:{claim_port('127.0.0.1', 0)}"
    ended = run_cli("models", "list", url=nowhere)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"fovea: No Fovea answers at {nowhere}; start one with `make run` or `fovea up`\n"
    with connect(nowhere) as client, pytest.raises(Unreachable):
        list(client.models.list())


@pytest.mark.parametrize("url", ["", "fovea.example", "ftp://fovea.example", "http://", "http://[::1"])
def test_what_is_no_url_is_said_to_be_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_URL", url or "nonsense")
    with pytest.raises(Unreachable, match="is not a URL"):
        connect(url)


class _Other(http.server.BaseHTTPRequestHandler):
    """Another program's answers: a page, and JSON that is no object."""

    def do_GET(self) -> None:
        body = b"[]" if "jobs" in self.path else b"<html>hello</html>"
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def other() -> Iterator[str]:
    with served(_Other) as url:
        yield url


def test_another_program_at_the_url_is_recognised(other: str) -> None:
    with connect(other) as client:
        for call in (client.readiness, lambda: list(client.jobs.list()), lambda: client.models.get("missing")):
            with pytest.raises(Unreachable, match="is not Fovea"):
                call()
        assert read_readiness(client) is None


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            connect(url, timeout_s=0.3) as client,
            pytest.raises(Unreachable, match="did not answer GET /v1/models"),
        ):
            list(client.models.list())


def run_cli(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *arguments]
    environment = {**os.environ, "FOVEA_URL": url, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def test_a_command_that_meets_an_error_says_one_line_and_ends_with_1(url: str) -> None:
    for arguments in (
        ("models", "show", "nothing"),
        ("jobs", "watch", "job_none"),
        ("models", "rollback", "nothing"),
    ):
        ended = run_cli(*arguments, url=url)
        assert ended.returncode == 1
        assert ended.stdout == ""
        assert ended.stderr.startswith("fovea: ")
        assert ended.stderr.count("\n") == 1


def test_jobs_are_listed_shown_and_cancelled(url: str, client: Fovea) -> None:
    job = client.finetune(**REQUEST).id
    listed = run_cli("jobs", "list", "--limit", "1", url=url).stdout
    assert job in listed
    assert "queued" in listed
    shown = run_cli("jobs", "show", job, url=url).stdout
    assert re.search(r"^request\.architecture +lenet5$", shown, re.MULTILINE)
    cancelled = run_cli("jobs", "cancel", job, url=url)
    assert cancelled.stdout == f"{job} is cancelled; it was waiting for a worker\n"
    assert run_cli("jobs", "cancel", job, url=url).stdout == f"{job} has ended already: cancelled\n"
    watched = run_cli("jobs", "watch", job, url=url)
    assert watched.returncode == 1
    assert watched.stderr.endswith(f"fovea: job {job} cancelled\n")


def test_files_that_cannot_be_classified_are_named_one_by_one(url: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    ended = run_cli("classify", "-m", "any", str(tmp_path / "missing.png"), str(tmp_path / "notes.txt"), url=url)
    assert ended.returncode == 1
    missing, notes = ended.stderr.splitlines()
    assert missing == f"{tmp_path}/missing.png: No such file or directory (unreadable_file)"
    assert notes.startswith(f"{tmp_path}/notes.txt: ")


def test_who_needs_a_key_is_told_where_to_give_it(tmp_path: Path) -> None:
    service = Stack(tmp_path, {"FOVEA_HOST": "0.0.0.0"})
    try:
        service.prepare()
        key = service.make_key("classify")
        service.start("gateway")
        without = run_cli("models", "list", url=service.url)
        wrong = run_cli("models", "list", "--key", key + "x", url=service.url)
        classified = run_cli("classify", "-m", "any", str(Path(__file__)), url=service.url)
        right = run_cli("models", "list", "--key", key, url=service.url)
    finally:
        service.stop()
    for said, words in ((without, "needs an API key"), (classified, "needs an API key"), (wrong, "does not take")):
        assert said.returncode == 1
        assert words in said.stderr
        assert "--key" in said.stderr
        assert "FOVEA_KEY" in said.stderr
        assert "Bearer" not in said.stderr
        assert said.stderr.count("\n") == 1
    assert right.returncode == 0, right.stderr
