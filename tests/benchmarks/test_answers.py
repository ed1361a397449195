"""An answer counts when it is the model's own."""

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from support.served import served

from benchmarks.answers import AnswerWrong, Expected, NoAnswer, await_answer
from benchmarks.load import Target

PHOTOGRAPH = Path("bee.jpg")
EXPECTED = Expected({PHOTOGRAPH: np.array([0.001, 0.7, 0.299], np.float32)})


def answer(index: int, probability: float) -> bytes:
    return json.dumps([{"index": index, "label": "bee", "probability": probability}]).encode()


@pytest.mark.parametrize("probability", [0.7, 0.70069, 0.69931])
def test_the_right_class_may_differ_by_a_thousandth(probability: float) -> None:
    EXPECTED.check(PHOTOGRAPH, answer(1, probability), json.loads)


@pytest.mark.parametrize(
    "body",
    [
        answer(1, 0.7008),
        answer(1, 0.6),
        answer(2, 0.7),
        answer(2, 0.299),
        answer(9, 0.7),
        b"[]",
        b"{",
        b"\xff",
        b"{}",
    ],
)
def test_everything_else_is_wrong(body: bytes) -> None:
    with pytest.raises(AnswerWrong, match=r"bee\.jpg"):
        EXPECTED.check(PHOTOGRAPH, body, json.loads)


def test_of_two_classes_that_are_as_probable_either_is_right() -> None:
    even = Expected({PHOTOGRAPH: np.array([0.5, 0.5], np.float32)})

    for index in (0, 1):
        even.check(PHOTOGRAPH, answer(index, 0.5), json.loads)


class Starting(BaseHTTPRequestHandler):
    """Not ready for two requests."""

    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = answer(1, 0.7)
        self.send_response(503 if type(self).asked <= 2 else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def test_the_first_right_answer_is_awaited(tmp_path: Path) -> None:
    photograph = tmp_path / "bee.jpg"
    photograph.write_bytes(b"anything")
    expected = Expected({photograph: EXPECTED.probabilities[PHOTOGRAPH]})
    looks: list[int] = []

    with served(Starting) as url:
        await_answer(Target(url, {}), json.loads, expected, within_s=30, alive=lambda: looks.append(1))
    with pytest.raises(NoAnswer, match=r"bee\.jpg"):
        await_answer(Target(url, {}), json.loads, expected, within_s=0.1, alive=lambda: None)

    assert Starting.asked == len(looks) == 3
