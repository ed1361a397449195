"""Where a class was seen, by both clients, against a real gateway and worker."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.colours import picture

from fovea_client import Conflict, ImageFailed, InvalidImage, InvalidRequest
from fovea_client.answer import NotFoveasAnswer
from fovea_client.explanation import explanations_of


def test_an_image_is_explained_and_its_drawing_saved(fovea: Any, tmp_path: Path) -> None:
    found = fovea.explain(picture("blue"), model="colours")
    assert (found.label, found.method, found.unit) == ("blue", "occlusion", "log-probability")
    assert (found.width, found.height, found.region) == (48, 40, (0, 0, 48, 40))
    assert (len(found.rows), {len(row) for row in found.rows}) == (8, {8})
    assert found.to_dict()["map"]["rows"] == [list(row) for row in found.rows]
    assert found.save_png(tmp_path / "out.png") == tmp_path / "out.png"
    assert Image.open(io.BytesIO(found.png)).format == "PNG"


def test_several_are_explained_in_order_each_with_its_own_error(fovea: Any, tmp_path: Path) -> None:
    first, torn = fovea.explain([picture("red"), b"no image"], model="colours", label=1)
    assert (first.label, first.explained.index) == ("green", 1)
    assert torn.error.code == "not_an_image"
    for ask in (lambda: torn.label, lambda: torn.save_png(tmp_path / "x.png")):
        with pytest.raises(ImageFailed):
            ask()
    assert fovea.explain([], model="colours") == []


def test_what_cannot_be_explained_is_raised(fovea: Any) -> None:
    with pytest.raises(InvalidRequest, match="did you mean blue"):
        fovea.explain(picture("red"), model="colours", label="bleu")
    with pytest.raises(Conflict, match="no feature map"):
        fovea.explain(picture("red"), model="colours", method="cam")
    with pytest.raises(InvalidImage):
        fovea.explain(b"no image", model="colours")


def test_another_programs_answer_is_told() -> None:
    for predictions in ([], [{"map": {}}]):
        with pytest.raises(NotFoveasAnswer):
            explanations_of({"predictions": predictions}, ["a"])
