"""The lines of docs/teach.md that use `model.onnx` without Fovea, run as they are printed."""

import ast
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image
from support.small_network import LABELS, SmallNetwork

from models.artifact import Manifest, write_manifest
from models.export import to_onnx
from models.predictor import Predictor
from models.preprocess import prepare
from models.spec import Preprocessing

Alone = Callable[[bytes], tuple[NDArray[np.float32], NDArray[np.float32]]]

PAGE = Path(__file__).parents[2] / "docs/teach.md"
# JPEGs of at least four times `resize` to a side are shrunk while Fovea decodes them.
SIZES = {
    "PNG": [(640, 427), (427, 640), (200, 200), (333, 500), (30, 50), (501, 70)],
    "JPEG": [(120, 427), (427, 100), (99, 101), (30, 50)],
}


def lines() -> str:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if "model.onnx" in block]
    return str(found)


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=90)
    return buffer.getvalue()


@pytest.fixture(
    params=[
        Preprocessing(height=32, width=40, resize=150),
        Preprocessing(height=32, width=32, resize=32, fit="crop", interpolation="bicubic"),
        Preprocessing(height=40, width=32, fit="squash", interpolation="lanczos", mean=(0.5,) * 3, std=(0.5,) * 3),
    ],
    ids=["crop", "crop-without-a-margin", "squash"],
)
def alone(
    request: pytest.FixtureRequest, network: SmallNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Alone:
    """Probabilities of the printed lines and of Fovea's predictor for an image's bytes; pixels are equal."""
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    to_onnx(network, artifact / "model.onnx", preprocessing=request.param, labels=LABELS, temperature=1.7)
    manifest = Manifest(model="m", labels=LABELS, preprocessing=request.param, architecture="small")
    write_manifest(artifact, manifest)
    predictor = Predictor(artifact, device="cpu")
    monkeypatch.chdir(tmp_path)
    shutil.copy(artifact / "model.onnx", "model.onnx")
    program = compile(lines(), str(PAGE), "exec")

    def run(image: bytes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        Path("photo.jpg").write_bytes(image)
        known: dict[str, Any] = {}
        exec(program, known)
        pixels = prepare(image, request.param)
        assert np.array_equal(known["pixels"], pixels)
        return known["probabilities"], predictor.predict(pixels[None]).probabilities[0]

    return run


def images() -> Iterator[bytes]:
    for name in ("china.jpg", "flower.jpg"):
        photograph = Image.fromarray(load_sample_image(name))
        yield encoded(photograph.convert("L"), "PNG")
        for kind, sizes in SIZES.items():
            for size in sizes:
                yield encoded(photograph.resize(size), kind)


def test_ten_lines_give_the_pixels_labels_and_probabilities_of_fovea(
    alone: Alone, capsys: pytest.CaptureFixture[str]
) -> None:
    for image in images():
        probabilities, expected = alone(image)
        assert np.abs(probabilities - expected).max() <= 1e-5
        label, probability = capsys.readouterr().out.split()
        assert label == LABELS[int(expected.argmax())]
        assert float(probability) == pytest.approx(expected.max(), abs=1e-5)


def test_they_are_ten_and_need_no_fovea() -> None:
    statements = ast.parse(lines()).body
    imports = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(statements) - len(imports) == 10
    names = {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"json", "numpy", "onnxruntime", "PIL"}
