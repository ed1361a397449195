"""How bodies become images: content types, counts, sizes and magic bytes, over real requests."""

import asyncio
import base64
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from support.api_keys import api_key
from support.colours import picture

from service.errors import Problem, install_error_handlers
from service.exchange import StoredImage
from service.images import read_images
from service.intake import PIECE_BYTES, ImageLimits, Intake, SentImage

PNG, JPEG, WEBP = (picture("red", form=form) for form in ("PNG", "JPEG", "WEBP"))


class MemoryStore:
    """Large images, and which of them were dropped."""

    def __init__(self, *servers: str) -> None:
        self.images: dict[str, bytes] = {}
        self.named = servers or ("one",)

    def servers(self) -> Sequence[str]:
        return self.named

    async def append(self, server: str, key: str, data: bytes, size: int, keep: Sequence[str]) -> None:
        assert server in self.named
        self.images[key] = self.images.get(key, b"") + data
        assert len(self.images[key]) == size
        assert key in keep

    async def drop(self, server: str, keys: Sequence[str]) -> None:
        assert server in self.named
        for key in keys:
            del self.images[key]


def intake(store: MemoryStore | None = None, max_image_bytes: int = 50_000, max_bytes: int = 2**30) -> Intake:
    return Intake(store or MemoryStore(), ImageLimits(3, max_image_bytes), max_bytes)


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/")
    async def count(request: Request) -> list[list[str | int | None]]:
        async with intake().reception(None) as reception:
            images = await read_images(request, reception)
        return [[image.name, len(image.content), image.problem and image.problem.code] for image in images]

    return TestClient(app)


@pytest.mark.parametrize(
    "content_type",
    [
        "image/jpeg", "image/jpg", "image/pjpeg", "image/png", "image/webp; q=1", "image/bmp", "image/x-ms-bmp",
        "image/gif", "image/tiff", "image/AVIF", "image/*", "application/octet-stream",
        "application/x-www-form-urlencoded",
    ],
)  # fmt: skip
def test_a_raw_body_is_one_image(client: TestClient, content_type: str) -> None:
    answer = client.post("/", content=JPEG, headers={"content-type": content_type})
    assert answer.json() == [[None, len(JPEG), None]]


def test_a_form_holds_one_file_or_many_in_order(client: TestClient) -> None:
    answer = client.post(
        "/", files=[("file", ("a.jpg", JPEG)), ("file", ("b.png", PNG)), ("x", ("c.txt", b"text"))]
    )
    assert answer.json() == [["a.jpg", len(JPEG), None], ["b.png", len(PNG), None], ["c.txt", 0, "not_an_image"]]


def test_json_holds_base64_or_data_urls(client: TestClient) -> None:
    encoded = base64.b64encode(PNG).decode()
    answer = client.post("/", json={"images": [encoded, f"data:image/png;base64,{encoded}"]})
    assert answer.json() == [[None, len(PNG), None]] * 2


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code", "said"),
    [
        (JPEG, "text/plain", 415, "unsupported_media_type", "--data-binary"),
        (JPEG, "image/svg+xml", 415, "unsupported_media_type", "image/svg+xml"),
        (JPEG, "image/heic", 415, "unsupported_media_type", "convert the picture to JPEG"),
        (b"{", "application/json", 400, "malformed_body", "not JSON"),
        (b"[]", "application/json", 400, "malformed_body", '"images"'),
        (b'{"images": []}', "application/json", 400, "no_image", "no image"),
        (b'{"images": ["?"]}', "application/json", 400, "malformed_body", '"images"[0]'),
        (b'{"images": [7]}', "application/json", 400, "malformed_body", '"images"[0]'),
        (b'{"images": ["", "", "", ""]}', "application/json", 413, "too_many_images", "4"),
        (b"no boundary", "multipart/form-data", 400, "malformed_body", "boundary"),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x", 400, "malformed_body", "multipart"),
    ],
)  # fmt: skip
def test_a_wrong_body_is_told_what_was_given_and_what_is_expected(
    client: TestClient, body: bytes, content_type: str, status: int, code: str, said: str
) -> None:
    answer = client.post("/", content=body, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


def test_a_large_form_stays_in_memory_and_whole(client: TestClient) -> None:
    noise = zlib.compress(bytes(range(256)) * 4) * 40
    answer = client.post("/", files={"file": ("big.jpg", JPEG + noise)})
    assert answer.json() == [["big.jpg", len(JPEG + noise), None]]


def test_an_image_above_the_limit_is_told_both_sizes(client: TestClient) -> None:
    answer = client.post("/", files={"file": ("big.jpg", JPEG + bytes(60_000))})
    assert answer.json() == [["big.jpg", 0, "too_large"]]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
def test_every_format_is_taken_by_its_first_bytes_whatever_it_is_called(client: TestClient, form: str) -> None:
    image = picture("red", form=form)
    answer = client.post("/", content=image, headers={"content-type": "application/octet-stream"})
    assert answer.json() == [[None, len(image), None]]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "This is an empty file; expected a JPEG, PNG, WEBP, BMP, GIF, TIFF or AVIF picture."),
        (b"%PDF-1.7", "This is a PDF; expected"),
        (b"<!DOCTYPE html>", "This is markup (an HTML or XML page); expected"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "This is a HEIC picture, which is not read: convert it to JPEG."),
        (b"BM, said the text", "it begins with b'BM, said'"),
    ],
)
def test_what_is_no_image_is_named(said: str, data: bytes) -> None:
    app = FastAPI()

    @app.post("/")
    async def first(request: Request) -> str:
        async with intake().reception(None) as reception:
            (image,) = await read_images(request, reception)
        assert image.problem
        return image.problem.detail

    answer = TestClient(app).post("/", content=data, headers={"content-type": "image/png"})
    assert said in answer.json()


async def received(body: Sequence[bytes], content_type: str, whole: Intake) -> list[SentImage]:
    """The images of a body that comes in these pieces."""
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, object]:
        return waiting.pop(0)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", content_type.encode())]}
    async with whole.reception(None) as reception:
        images = await read_images(Request(scope, receive), reception)
        assert reception.held >= sum(len(image.content) for image in images)
        return images


def in_pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def form(*images: bytes) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x", files=[("f", (f"{n}.png", data)) for n, data in enumerate(images)])
    return request.read(), request.headers["content-type"]


def listed(*images: bytes) -> tuple[bytes, str]:
    return json.dumps(
        {"images": [base64.b64encode(data).decode() for data in images]}
    ).encode(), "application/json"


@pytest.mark.parametrize("size", [1, 7, 100, 4096, 2**20])
@pytest.mark.parametrize("sender", [form, listed])
def test_images_come_out_whole_however_their_body_is_cut(
    sender: Callable[..., tuple[bytes, str]], size: int
) -> None:
    """Base64 with the escapes that some encoders make, long and short strings, a boundary across two pieces."""
    sent = [PNG[:100], JPEG, PNG + bytes(range(256)) * 20]
    body, content_type = sender(*sent)
    if sender is listed:
        body = body.replace(b"/", b"\\/").replace(b"+", b"\\u002B").replace(b"=", b"\\u003d")
    images = asyncio.run(received(in_pieces(body, size), content_type, intake()))
    assert [image.content for image in images] == sent


@pytest.mark.parametrize("sender", [form, listed])
def test_a_large_image_is_passed_on_in_pieces_and_forgotten_when_nobody_answers(
    sender: Callable[..., tuple[bytes, str]],
) -> None:
    kept: list[bytes] = []
    large = PNG + random.Random(0).randbytes(3 * PIECE_BYTES)
    body, content_type = sender(large, PNG)

    class Watched(MemoryStore):
        async def drop(self, server: str, keys: Sequence[str]) -> None:
            kept.extend(self.images[key] for key in keys)
            await super().drop(server, keys)

    store = Watched()
    whole = intake(store, max_image_bytes=2**22)
    images = asyncio.run(received(in_pieces(body, 100_000), content_type, whole))
    assert [type(image.content) for image in images] == [StoredImage, bytes]
    assert (kept, len(images[0].content)) == ([large], len(large))
    assert (store.images, whole.held) == ({}, 0)


def test_what_a_worker_has_answered_for_is_not_dropped_again_but_the_rest_is() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with intake(store, max_image_bytes=2 * PIECE_BYTES).reception(None) as reception:
            images = [reception.image("a"), reception.image("b")]
            await images[0].write(PNG + bytes(PIECE_BYTES))
            await images[1].write(PNG + bytes(PIECE_BYTES))
            await images[1].write(bytes(PIECE_BYTES))
            sent = [await image.finish() for image in images]
            assert [image.problem and image.problem.code for image in sent] == [None, "too_large"]
            assert len(store.images) == 2
            reception.answered(sent)
        assert isinstance(sent[0].content, StoredImage)
        assert list(store.images) == [sent[0].content.key]

    asyncio.run(scenario())


def test_of_several_servers_each_has_a_limit_of_its_own() -> None:
    piece = PNG + bytes(PIECE_BYTES)

    async def scenario() -> None:
        store = MemoryStore("one", "two")
        whole = Intake(store, ImageLimits(3, 2**22), int(len(piece) * 1.5), servers=2)
        async with AsyncExitStack() as stack:
            used = set()
            for _ in range(2):
                reception = await stack.enter_async_context(whole.reception(None))
                await reception.image().write(piece)
                used.add(reception.server)
            # There was room for one on each.
            assert used == {"one", "two"}
            third = await stack.enter_async_context(whole.reception(None))
            with pytest.raises(Problem) as refused:
                await third.image().write(piece)
            assert (refused.value.status, refused.value.code) == (429, "too_many_waiting")
        assert (whole.held, whole._held_on.total(), store.images) == (0, 0, {})

    asyncio.run(scenario())


def test_new_images_go_to_the_servers_that_can_be_used_and_have_room() -> None:
    piece = PNG + bytes(PIECE_BYTES)

    async def servers_of(store: MemoryStore, requests: int) -> set[str]:
        whole = Intake(store, ImageLimits(3, 2**22), 2**30, servers=2)
        async with AsyncExitStack() as stack:
            used = set()
            for _ in range(requests):
                reception = await stack.enter_async_context(whole.reception(None))
                for image in (reception.image(), reception.image()):
                    await image.write(piece)
                used.add(reception.server)
            return used

    assert asyncio.run(servers_of(MemoryStore("one", "two"), 30)) == {"one", "two"}
    assert asyncio.run(servers_of(MemoryStore("two"), 5)) == {"two"}


def test_all_bodies_together_are_bounded_and_one_alone_is_not() -> None:
    async def scenario() -> None:
        whole = intake(max_bytes=1000)
        async with whole.reception(None) as first:
            first.hold(5000)
            async with whole.reception(None) as second:
                with pytest.raises(Problem) as caught:
                    second.hold(1)
                assert (caught.value.status, caught.value.code) == (429, "too_many_waiting")
                assert "Retry-After" in caught.value.headers
        assert whole.held == 0

    asyncio.run(scenario())


def test_the_bodies_of_one_key_leave_room_for_those_of_others() -> None:
    async def scenario() -> None:
        whole = intake(max_bytes=1000)
        async with whole.reception(api_key("slow")) as first, whole.reception(api_key("slow")) as second:
            first.hold(700)
            with pytest.raises(Problem, match="images of this key") as caught:
                second.hold(100)
            assert (caught.value.status, caught.value.code) == (429, "too_many_waiting")
            async with whole.reception(api_key("other")) as other:
                other.hold(250)
            second.hold(50)
        async with whole.reception(api_key("slow")) as alone:
            alone.hold(5000)
        assert whole.held == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("begin", "repeated", "status", "code"),
    [
        (b'{"x":[', b"[],", 413, "too_large"),
        (b'{"images":[', b'"",', 413, "too_large"),
        (b'{"images":' + b"[" * 900, b" ", 413, "too_large"),
        (b"[" * 2000 + b"]" * 2000, b"", 400, "malformed_body"),
        (b'{"images":[', b'"' + b"A" * 300 + b'",', 413, "too_many_images"),
        (b'{"images":["' + b"A" * 300, b"\\u12", 400, "malformed_body"),
        (b'{"images":["' + b"A" * 300, b'\\"', 400, "malformed_body"),
        (b'{"images":["data:' + b"A" * 300, b"A", 400, "malformed_body"),
        (b'{"images":["' + b"A" * 301 + b"===" + b"A" * 400 + b'"]}', b"", 400, "malformed_body"),
        (b'{"images":["' + b"A" * 301 + b'"]}', b"", 400, "malformed_body"),
    ],
)
def test_hostile_json_ends_early_and_is_never_in_memory(
    begin: bytes, repeated: bytes, status: int, code: str
) -> None:
    pieces = [begin, *[repeated * 10_000] * 300]

    async def scenario() -> tuple[int, str]:
        try:
            await received(pieces, "application/json", intake())
        except Problem as problem:
            return problem.status, problem.code
        raise AssertionError("it was taken")

    tracemalloc.start()
    try:
        assert asyncio.run(scenario()) == (status, code)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_long_string_elsewhere_in_the_json_does_no_harm(client: TestClient) -> None:
    encoded = base64.b64encode(PNG).decode()
    note = 'a "quoted" \\ note, ' * 100
    answer = client.post("/", json={"note": note, note: [], "images": [encoded, encoded]})
    assert answer.json() == [[None, len(PNG), None]] * 2
