"""What a notebook shows."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.colours import picture
from support.waited import job

from fovea_client import Prediction, ScoredClass
from fovea_client.html import MOST_BYTES
from fovea_client.image import source_of
from fovea_client.prediction import failed

EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """The tags and the text of a page; every tag that was opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        else:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def prediction(image: Any, label: str = "red") -> Prediction:
    return Prediction(
        "photo.jpg", (ScoredClass(0, label, 0.9), ScoredClass(1, "blue", 0.1)), source=source_of(image)
    )


def shown(page: Page) -> Image.Image:
    (address,) = page.images
    kind, _, data = address.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{(image.format or '').lower()}"
    return image


def test_a_prediction_is_a_small_table_with_its_picture() -> None:
    page = Page(prediction(picture("red"))._repr_html_())
    assert page.tags.count("tr") == 2
    assert page.text == "photo.jpgred90.0 %blue10.0 %"
    assert shown(page).size == (48, 40)


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_what_is_large_or_not_for_browsers_is_made_small(form: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    path = tmp_path / "photo"
    Image.fromarray(noise).save(path, form)
    text = prediction(path)._repr_html_()
    assert len(text) < 1.5 * MOST_BYTES
    assert max(shown(Page(text)).size) == 160


def test_what_cannot_be_shown_leaves_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "gone.png"
    path.write_bytes(picture("red"))
    found = prediction(path)
    path.unlink()
    assert Page(found._repr_html_()).images == []
    assert Page(prediction(b"no image" * 50_000)._repr_html_()).images == []


def test_without_pillow_a_large_picture_is_left_out() -> None:
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from fovea_client import Prediction\nfrom fovea_client.image import source_of\n"
        "for size in (1000, 200_000):\n"
        "    image = b'\\xff\\xd8\\xff' + bytes(size)\n"
        "    print('<img' in Prediction(None, source=source_of(image))._repr_html_())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_labels_names_and_errors_are_text_and_nothing_else() -> None:
    page = Page(prediction(picture("red"), label=EVIL + "x" * 500)._repr_html_())
    assert "script" not in page.tags
    assert EVIL in page.text
    assert len(page.text) < 200
    broken = Page(failed(source_of(b"x"), "not_an_image", EVIL)._repr_html_())
    assert "script" not in broken.tags
    assert f"{EVIL} (not_an_image)" in broken.text
    sad = job({"id": EVIL, "state": "failed", "error": {"code": "internal", "detail": EVIL}})
    assert "script" not in Page(sad._repr_html_()).tags


@pytest.mark.parametrize(
    ("found", "width", "words"),
    [
        ({"state": "queued"}, "0.0", "finetune job_1: queued"),
        ({"state": "running", "progress": {"phase": "training", "epoch": 1, "epochs": 4}}, "25.0", "epoch 1 of 4"),
        ({"state": "succeeded"}, "100.0", "succeeded"),
        (
            {"state": "failed", "error": {"code": "diverged", "detail": "no number"}},
            "100.0",
            "no number (diverged)",
        ),
    ],
)
def test_a_job_is_a_bar_with_words(found: dict[str, Any], width: str, words: str) -> None:
    text = job(found)._repr_html_()
    assert f"width:{width}%" in text
    assert words in re.sub(r"\s+", " ", Page(text).text)


def test_its_repr_is_a_line() -> None:
    assert repr(prediction(picture("red"))) == "<Prediction photo.jpg: red 90.0 %, blue 10.0 %>"
    assert (
        repr(failed(source_of(b"x"), "not_an_image", "It is none.")) == "<Prediction It is none. (not_an_image)>"
    )
