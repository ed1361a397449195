"""Explanations over real requests: a real gateway, Redis and worker, on networks whose maps are known."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from support.colours import picture
from support.quadrants import halves, make_quadrants
from support.stack import Stack

GREEN_RIGHT = halves("red", "green", (96, 48))


def encoded(pixels: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module", autouse=True)
def networks(stack: Stack) -> None:
    for model, pooled in (("pooled", True), ("dense", False)):
        make_quadrants(stack.folder / "made" / f"models/{model}/1/", pooled=pooled)
        stack.publish(f"models/{model}/1/", model)


def ask(
    stack: Stack, image: bytes, model: str = "pooled", accept: str = "application/json", **params: Any
) -> httpx.Response:
    headers = {"accept": accept, "content-type": "image/png"}
    url = f"{stack.url}/v1/models/{model}/explain"
    return httpx.post(url, content=image, headers=headers, params=params, timeout=60)


def explained(stack: Stack, image: bytes, model: str = "pooled", **params: Any) -> dict[str, Any]:
    answer = ask(stack, image, model, **params)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["predictions"]
    return dict(found)


@pytest.mark.parametrize(
    ("model", "asked", "method", "cells"),
    [
        ("pooled", "auto", "cam", 4),
        ("pooled", "recipro-cam", "recipro-cam", 4),
        ("pooled", "occlusion", "occlusion", 8),
        ("dense", "auto", "recipro-cam", 4),
        ("dense", "occlusion", "occlusion", 8),
        ("colours", "auto", "occlusion", 8),
    ],
)
def test_a_class_is_found_in_its_half_by_every_method(
    stack: Stack, model: str, asked: str, method: str, cells: int
) -> None:
    image = encoded(halves("red", "green"))
    for label, side in (("red", 0), ("green", 1)):
        found = explained(stack, image, model, method=asked, **{"class": label})
        rows = np.array(found["map"]["rows"])
        assert (found["method"], found["class"]["label"]) == (method, label)
        assert rows.shape == (cells, cells)
        assert rows.min() == 0
        assert rows.max() == 1
        halved = [rows[:, : cells // 2].sum(), rows[:, cells // 2 :].sum()]
        assert halved[side] > 2 * halved[1 - side]


def test_the_map_lies_in_what_was_seen_of_the_upright_image(stack: Stack) -> None:
    turned = Image.fromarray(np.rot90(GREEN_RIGHT))
    exif = turned.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    found = explained(stack, buffer.getvalue(), **{"class": "green"})
    assert found["image"] == {"width": 96, "height": 48}
    assert found["region"] == {"left": 24, "top": 0, "right": 72, "bottom": 48}
    assert found["box"] == {"left": 48, "top": 0, "right": 72, "bottom": 48}


def test_without_a_class_the_most_probable_one_is_explained(stack: Stack) -> None:
    found = explained(stack, picture("blue"), "colours")
    assert found["class"]["label"] == "blue"
    assert found["class"]["probability"] > 0.9
    assert found["overlay"] is None


def test_a_class_may_be_asked_for_by_its_number(stack: Stack) -> None:
    assert explained(stack, picture("blue"), **{"class": "1"})["class"]["label"] == "green"


def test_a_picture_of_it_comes_by_accept(stack: Stack) -> None:
    answer = ask(stack, encoded(GREEN_RIGHT), accept="image/png", **{"class": "green"})
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["vary"] == "Accept"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    assert drawn.shape == (128, 256, 3)
    assert drawn[64, 20].max() < 90, "what was not seen is dark"
    assert drawn[64, 170].sum() > drawn[64, 90].sum() + 200, "and the half of the class is bright"
    found = explained(stack, encoded(GREEN_RIGHT), overlay="true", **{"class": "green"})
    assert base64.b64decode(found["overlay"]) == answer.content


def test_several_images_have_their_explanations_and_errors_in_order(stack: Stack) -> None:
    contents = {
        "a.png": encoded(GREEN_RIGHT),
        "b.txt": b"no image",
        "c.png": picture("red")[:60],
        "d.png": picture("blue"),
    }
    files = [("file", named) for named in contents.items()]
    answer = httpx.post(f"{stack.url}/v1/models/pooled/explain", files=files, timeout=60)
    body = answer.json()
    assert [found["name"] for found in body["predictions"]] == ["a.png", "b.txt", "c.png", "d.png"]
    assert [found["error"] and found["error"]["code"] for found in body["predictions"]] == [
        None, "not_an_image", "image_unreadable", None,
    ]  # fmt: skip
    assert body["predictions"][1]["map"] is None
    assert body["predictions"][3]["class"]["label"] == "blue"
    assert (body["provider"], body["precision"], body["timings"]["batch_size"]) == (
        "CPUExecutionProvider",
        "float32",
        3,
    )


@pytest.mark.parametrize(
    ("model", "method", "reason"),
    [
        ("dense", "cam", "recipro-cam or occlusion, not by cam"),
        ("colours", "recipro-cam", "no feature map"),
    ],
)
def test_a_method_that_a_version_cannot_do_is_a_409_that_says_which_it_can(
    stack: Stack, model: str, method: str, reason: str
) -> None:
    answer = ask(stack, picture("red"), model, method=method)
    assert (answer.status_code, answer.json()["code"]) == (409, "explanation_unavailable")
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize(
    ("params", "status", "code", "reason"),
    [
        ({"class": "gren"}, 422, "invalid_request", "did you mean green"),
        ({"class": "3"}, 422, "invalid_request", "numbered from 0 to 2"),
        ({"class": ""}, 422, "invalid_request", "red, green, blue"),
        ({"method": "gradcam"}, 422, "invalid_request", "method"),
        ({"precision": "int8"}, 409, "precision_unavailable", "int8"),
        ({"top_k": "3"}, 422, "invalid_request", "top_k"),
    ],
)
def test_what_cannot_be_asked_for_is_told(
    stack: Stack, params: dict[str, str], status: int, code: str, reason: str
) -> None:
    answer = ask(stack, picture("red"), **params)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert reason in answer.text


def test_forms_that_there_are_not_are_refused(stack: Stack) -> None:
    assert ask(stack, picture("red"), accept="image/webp").json()["code"] == "not_acceptable"
    files = [("file", (f"{n}.png", picture("red"))) for n in range(17)]
    url = f"{stack.url}/v1/models/pooled/explain"
    several = httpx.post(url, files=files[:2], headers={"accept": "image/png"}, timeout=60)
    assert (several.status_code, several.json()["code"]) == (406, "not_acceptable")
    assert "overlay=true" in several.json()["detail"]
    many = httpx.post(url, files=files, timeout=60)
    assert (many.status_code, many.json()["code"]) == (413, "too_many_images")
    broken = ask(stack, picture("red")[:60])
    assert (broken.status_code, broken.json()["code"]) == (422, "image_unreadable")
