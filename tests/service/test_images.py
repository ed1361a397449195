"""How bodies become images: content types, counts, sizes and magic bytes, over real requests."""

import base64
import zlib

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from support.colours import picture

from service.errors import install_error_handlers
from service.images import ImageLimits, image_format, read_images

PNG, JPEG, WEBP = (picture("red", form=form) for form in ("PNG", "JPEG", "WEBP"))


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    install_error_handlers(app)

    @app.post("/")
    async def count(request: Request) -> list[list[str | int | None]]:
        images = await read_images(request, ImageLimits(max_images=3, max_image_bytes=50_000))
        return [[image.name, len(image.data), image.problem and image.problem.code] for image in images]

    return TestClient(app)


@pytest.mark.parametrize(
    ("data", "name"), [(PNG, "PNG"), (JPEG, "JPEG"), (WEBP, "WEBP"), (b"GIF89a", None), (b"", None)]
)
def test_a_format_is_told_by_its_first_bytes(data: bytes, name: str | None) -> None:
    assert image_format(data) == name


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "image/png", "application/octet-stream", "image/webp; q=1"]
)
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
        (JPEG, "application/x-www-form-urlencoded", 415, "unsupported_media_type", "--data-binary"),
        (JPEG, "image/gif", 415, "unsupported_media_type", "image/gif"),
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
