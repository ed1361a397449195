"""How bodies become images: content types, counts, sizes and magic bytes, over real requests."""

import base64
import zlib
from collections.abc import Sequence

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from support.colours import picture

from service.errors import install_error_handlers
from service.images import read_images
from service.intake import ImageLimits, Intake

PNG, JPEG, WEBP = (picture("red", form=form) for form in ("PNG", "JPEG", "WEBP"))


class MemoryStore:
    """Large images, and which of them were dropped."""

    def __init__(self) -> None:
        self.images: dict[str, bytes] = {}

    async def append(self, key: str, data: bytes, size: int, keep: Sequence[str]) -> None:
        self.images[key] = self.images.get(key, b"") + data
        assert len(self.images[key]) == size
        assert key in keep

    async def drop(self, keys: Sequence[str]) -> None:
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
        async with intake().reception() as reception:
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
        async with intake().reception() as reception:
            (image,) = await read_images(request, reception)
        assert image.problem
        return image.problem.detail

    answer = TestClient(app).post("/", content=data, headers={"content-type": "image/png"})
    assert said in answer.json()
