"""ONNX files of others: what is served answers what the file answers, and what is wrong is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from support.model_files import (
    LABELS,
    MEAN,
    SIZE,
    STD,
    VIEW,
    WRONG,
    branching,
    by_hand,
    channels_last,
    ended,
    fixed,
    helpers,
    mixing,
    names_of_ours,
    of_old,
    onnx_file,
    pixels,
    stuck,
    weights,
    write,
)
from support.small_network import LABELS as SMALL_LABELS
from support.small_network import TEMPERATURE, MadeArtifact

from models.artifact import Manifest, write_manifest
from models.errors import ExportMismatch, ModelError, UploadFactsMissing
from models.photographs import photographs
from models.predictor import Predictor
from models.spec import Preprocessing
from models.uploaded.prepare import prepared

SAID: dict[str, Any] = {"labels": LABELS, "preprocessing": VIEW}


def predictor_of(answer: dict[str, Any], folder: Path) -> Predictor:
    manifest = Manifest(
        model="m",
        labels=tuple(answer["labels"]),
        preprocessing=Preprocessing.from_dict(answer["preprocessing"]),
        architecture="onnx",
        outputs=answer["outputs"],
        parity=answer["parity"],
    )
    write_manifest(folder, manifest)
    return Predictor(folder, device="cpu")


def served(tmp_path: Path, content: bytes, **said: Any) -> tuple[dict[str, Any], Predictor]:
    folder = tmp_path / "artifact"
    folder.mkdir()
    answer = prepared(write(tmp_path, content), folder / "model.onnx", {**SAID, **said})
    json.dumps(answer)
    return answer, predictor_of(answer, folder)


def asked(content: bytes, fed: NDArray[Any], output: str = "scores") -> NDArray[np.float32]:
    """What the file itself answers, one image after the other."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    batch = session.get_inputs()[0].shape[0]
    step = batch if isinstance(batch, int) else 1
    parts = [session.run([output], {name: fed[i : i + step]})[0] for i in range(0, len(fed), step)]
    return np.concatenate(parts)


def softmax(rows: NDArray[Any]) -> NDArray[Any]:
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def first(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """As torchvision normalises, channels first."""
    floats = (images.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(floats.transpose(0, 3, 1, 2))


def last(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(first(images).transpose(0, 2, 3, 1))


GOOD: dict[str, tuple[Callable[[], bytes], dict[str, Any], Callable[[Any], Any], str, bool]] = {
    "channels first": (onnx_file, {}, first, "scores", False),
    "a batch without a name": (lambda: onnx_file(shape=(None, 3, SIZE, SIZE)), {}, first, "scores", False),
    "channels last": (channels_last, {}, last, "scores", False),
    "8-bit pixels": (pixels, {"preprocessing": {}}, lambda images: images, "scores", False),
    "any size": (
        lambda: onnx_file(shape=("n", 3, "h", "w")),
        {"preprocessing": {**VIEW, "height": 32, "width": 48}},
        first,
        "scores",
        False,
    ),
    "a batch of one": (lambda: fixed(1), {}, first, "scores", False),
    "a batch of one, the rest to be told": (lambda: fixed(1, with_rest=True), {}, first, "scores", False),
    "a batch of four": (lambda: fixed(4), {}, first, "scores", False),
    "softmax": (lambda: ended("Softmax", axis=1), {}, first, "answer", True),
    "softmax and more": (lambda: ended("Softmax", "Identity"), {}, first, "answer", True),
    "softmax by hand": (by_hand, {}, first, "answer", True),
    "log softmax": (lambda: ended("LogSoftmax", axis=1), {}, first, "answer", False),
    "yes or no, if it is to be": (lambda: ended("Sigmoid"), {"values": "logits"}, first, "answer", False),
    "weights as inputs": (of_old, {}, first, "scores", False),
    "our own names": (names_of_ours, {}, first, "scores", False),
    "several outputs": (helpers, {"output": "scores"}, first, "scores", False),
    "a branch": (branching, {}, first, "answer", False),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_served_is_the_file(tmp_path: Path, name: str) -> None:
    make, said, feeding, output, gives_probabilities = GOOD[name]
    answer, predictor = served(tmp_path, make(), **said)
    images = photographs(predictor.preprocessing, 12)
    expected = asked(make(), feeding(images), output)
    found = predictor.predict(images)
    probabilities = expected if gives_probabilities else softmax(expected)
    assert np.abs(found.probabilities - probabilities).max() < 1e-4
    if not gives_probabilities:
        assert np.allclose(found.logits, expected, rtol=1e-3, atol=1e-4)
    assert (found.probabilities.argmax(1) == expected.argmax(1)).all()
    assert np.ptp(found.probabilities, axis=0).max() > 0.01
    assert predictor.labels == LABELS
    assert answer["parity"]["passed"]


def test_a_grey_file_sees_the_luminance(tmp_path: Path) -> None:
    content = onnx_file(shape=("n", 1, SIZE, SIZE), tensors=weights(channels=1))
    view = {"mean": (0.13, 0.13, 0.13), "std": (0.31, 0.31, 0.31)}
    _, predictor = served(tmp_path, content, preprocessing=view)
    images = photographs(predictor.preprocessing, 6)
    grey = images @ np.array([0.299, 0.587, 0.114]) / 255
    expected = asked(content, ((grey - 0.13) / 0.31).astype(np.float32)[:, None])
    assert np.allclose(predictor.predict(images).logits, expected, rtol=1e-3, atol=1e-4)


def test_embedding_and_feature_map_are_found(tmp_path: Path) -> None:
    answer, predictor = served(tmp_path, onnx_file())
    assert answer["outputs"] == {
        "logits": [3], "probabilities": [3], "embedding": [8], "feature_map": [8, SIZE, SIZE],
    }  # fmt: skip
    images = photographs(predictor.preprocessing, 3)
    embedding, feature_map = predictor.run(images, ["embedding", "feature_map"])
    assert np.allclose(feature_map.mean((2, 3)), embedding, atol=1e-4)


def test_a_file_of_foveas_own_comes_back_as_it_was(tmp_path: Path, made_artifact: MadeArtifact) -> None:
    """Without a word beside it: labels, of which two are equal, preprocessing and temperature are in it."""
    folder = tmp_path / "again"
    folder.mkdir()
    answer = prepared(made_artifact.folder / "model.onnx", folder / "model.onnx", {})
    assert tuple(answer["labels"]) == SMALL_LABELS
    assert answer["temperature"] == TEMPERATURE
    assert Preprocessing.from_dict(answer["preprocessing"]) == made_artifact.manifest.preprocessing
    assert set(answer["outputs"]) == {"logits", "probabilities", "embedding", "feature_map"}
    before, after = Predictor(made_artifact.folder, device="cpu"), predictor_of(answer, folder)
    images = photographs(before.preprocessing, 10)
    assert np.allclose(before.predict(images).probabilities, after.predict(images).probabilities, atol=1e-6)
    assert np.allclose(before.predict(images).logits, after.predict(images).logits, rtol=1e-5, atol=1e-5)


def test_the_artifact_tells_nothing_of_where_it_was_exported(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_from_string(onnx_file(metadata={"source": "/home/somebody/secret.py"}))
    model.doc_string = model.graph.doc_string = model.graph.node[0].doc_string = "/home/somebody/train.py"
    model.graph.node[0].metadata_props.add(key="trace", value="/home/somebody/net.py")
    _, predictor = served(tmp_path, model.SerializeToString())
    assert b"somebody" not in (tmp_path / "artifact" / "model.onnx").read_bytes()
    assert predictor.labels == LABELS


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_told_what_was_expected(tmp_path: Path, name: str) -> None:
    make, said = WRONG[name]
    with pytest.raises(ModelError, match=f"(?s){said}") as caught:
        prepared(write(tmp_path, make()), tmp_path / "out.onnx", SAID)
    text = str(caught.value)
    assert str(tmp_path) not in text
    assert "/onnxruntime_src" not in text
    assert "/etc" not in text
    assert len(text) < 800


@pytest.mark.parametrize(
    ("make", "said"), [(mixing, "answers otherwise than by itself"), (stuck, "any number of")]
)
def test_answers_that_depend_on_the_batch_do_not_pass_the_gate(
    tmp_path: Path, make: Callable[[], bytes], said: str
) -> None:
    with pytest.raises(ExportMismatch, match=said) as caught:
        prepared(write(tmp_path, make()), tmp_path / "out.onnx", SAID)
    assert not caught.value.report["passed"]
    assert "free batch dimension" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"labels": None}, "labels: .*tells 3 classes apart and holds no names"),
        ({"labels": ("a", "b")}, r"labels: got 2 \('a', 'b'\), but .*tells 3 classes apart"),
        ({"labels": "imagenet"}, "labels: got 1000"),
        ({"labels": ("a", "b", "a")}, r"1 of them stand for more than one class \('a'\)"),
        (
            {"labels": ("a", "b", "c\u202ed")},
            r"number 3, 'c\\u202ed', holds a .*not seen, U\+202E",
        ),
        ({"labels": ("a", "b\x07", "c")}, r"number 2, 'b\\x07', holds a character that is not seen"),
        ({"labels": ("a", " ", "c")}, "number 2, ' ', is empty"),
        ({"labels": ("a", "b" * 300, "c")}, "has 300 characters, of at most 200"),
        ({"preprocessing": None}, 'preprocessing: .*does not say how.*give mean and std.*"imagenet"'),
        ({"preprocessing": {}}, "preprocessing.mean: the file takes floats"),
        ({"preprocessing": {**VIEW, "height": 64}}, "preprocessing.height: got 64, but the file takes 32"),
        ({"preprocessing": {**VIEW, "resize": 8}}, "preprocessing: resize=8 is smaller"),
        ({"output": "other"}, "output: there is none called 'other'; the file has 'scores' float32"),
        ({"values": "probabilities"}, "its rows do not add up to 1"),
    ],
)
def test_what_is_missing_or_does_not_fit_the_file_is_named(
    tmp_path: Path, said: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ModelError, match=expected):
        prepared(write(tmp_path, onnx_file()), tmp_path / "out.onnx", {**SAID, **said})


@pytest.mark.parametrize("make", [lambda: ended("Softmax", axis=1), by_hand])
def test_probabilities_are_not_taken_for_logits(tmp_path: Path, make: Callable[[], bytes]) -> None:
    with pytest.raises(ModelError, match="got 'logits', but"):
        prepared(write(tmp_path, make()), tmp_path / "out.onnx", {**SAID, "values": "logits"})


def test_a_file_that_normalises_itself_takes_no_mean(tmp_path: Path) -> None:
    with pytest.raises(UploadFactsMissing, match="it normalises them itself; leave mean and std out"):
        prepared(write(tmp_path, pixels()), tmp_path / "out.onnx", SAID)


@pytest.mark.parametrize(
    "view",
    ['{"height": "x"}', '{"mean": [NaN, 0, 0]}', '{"std": [0, 1, 1]}', '{"height": 1e9}', '{"fit": "stretch"}'],
)
def test_a_preprocessing_of_the_metadata_that_is_none_is_told(tmp_path: Path, view: str) -> None:
    content = onnx_file(metadata={"preprocessing": view})
    with pytest.raises(UploadFactsMissing, match="preprocessing: the file's metadata"):
        prepared(write(tmp_path, content), tmp_path / "out.onnx", {"labels": LABELS})


def test_labels_of_the_metadata_that_are_none_are_not_there(tmp_path: Path) -> None:
    for labels in ("[1, 2, 3]", "no JSON", '{"a": 1}', "[" * 100_000):
        content = onnx_file(metadata={"labels": labels})
        with pytest.raises(UploadFactsMissing, match="holds no names"):
            prepared(write(tmp_path, content), tmp_path / "out.onnx", {"preprocessing": VIEW})
