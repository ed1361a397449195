"""An upload lies in a folder of its own, which is gone after it; none of that stops the gateway's event loop."""

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from service.errors import Problem, install_error_handlers
from service.uploads import received

BODY = b"x" * 10_000
# The threads in which folders below these were removed. A hook of the interpreter's stays for good.
REMOVED_BY: dict[Path, set[int]] = {}


def note_removals(event: str, arguments: tuple[object, ...]) -> None:
    if event == "shutil.rmtree":
        for folder, threads in REMOVED_BY.items():
            if str(arguments[0]).startswith(str(folder)):
                threads.add(threading.get_ident())


sys.addaudithook(note_removals)


def take(_begin: bytes) -> None:
    pass


def refuse(_begin: bytes) -> None:
    raise Problem(415, "unsupported_media_type", "none of that")


def upload(folder: Path, check_begin: Callable[[bytes], None] = take, body: bytes = BODY) -> httpx.Response:
    """Received by an event loop that runs in this thread."""
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/")
    async def receive(request: Request) -> dict[str, object]:
        async with received(request, folder, 2 * len(BODY), check_begin=check_begin) as archive:
            return {"found": len(archive.path.read_bytes()), "size": archive.size, "sha256": archive.sha256}

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.post("/", content=body)

    return asyncio.run(send())


def test_the_whole_body_can_be_read_by_its_path_and_is_gone_afterwards(tmp_path: Path) -> None:
    answer = upload(tmp_path / "uploads")
    assert (answer.json()["found"], answer.json()["size"]) == (len(BODY), len(BODY))
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("check_begin", "body", "status"), [(refuse, BODY, 415), (take, b"", 400), (take, 3 * BODY, 413)]
)
def test_nothing_is_left_of_what_is_refused(
    tmp_path: Path, check_begin: Callable[[bytes], None], body: bytes, status: int
) -> None:
    assert upload(tmp_path, check_begin, body).status_code == status
    assert list(tmp_path.iterdir()) == []


def test_archives_are_removed_in_threads(tmp_path: Path) -> None:
    """They may have 20 GB: its own, and those that killed gateways left."""
    left = tmp_path / "scratch-left"
    left.mkdir()
    (left / ".lock").touch()
    threads = REMOVED_BY.setdefault(tmp_path, set())
    assert upload(tmp_path).status_code == 200
    assert list(tmp_path.iterdir()) == []
    assert threads
    assert threading.get_ident() not in threads
