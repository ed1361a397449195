"""Batches in parts, by real sessions on the CPU; `make gpu` measures what that gains on a GPU."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.small_network import MadeArtifact

from models.devices import open_session
from models.errors import PredictionFailed
from models.predictor import Predictor
from models.sessions import InParts, OfFewSizes, sized_parts
from models.spec import INPUT, OUTPUTS


class Noting:
    """A session, and how many images it was given each time."""

    def __init__(self, session: Any) -> None:
        self.session, self.sizes = session, list[int]()

    def run(self, outputs: Sequence[str], feed: dict[str, NDArray[np.uint8]]) -> Any:
        self.sizes.append(len(feed[INPUT]))
        return self.session.run(outputs, feed)


@pytest.fixture
def opened(made_artifact: MadeArtifact) -> list[Noting]:
    """The sessions so far, of which there is one."""
    return [Noting(open_session(made_artifact.folder / "model.onnx", device="cpu").session)]


def of_few_sizes(opened: list[Noting], artifact: Path) -> OfFewSizes:
    def another() -> Noting:
        opened.append(Noting(open_session(artifact / "model.onnx", device="cpu").session))
        return opened[-1]

    return OfFewSizes(opened[0], another)


@pytest.mark.parametrize(
    ("images", "sizes"),
    [
        (1, [1]),
        (2, [4]),
        (4, [4]),
        (5, [16]),
        (16, [16]),
        (17, [16, 1]),
        (64, [16, 16, 16, 16]),
        (65, [128]),
        (128, [128]),
        (150, [128, 16, 16]),
    ],
)
def test_parts_are_of_few_sizes_and_hold_every_image_once(images: int, sizes: list[int]) -> None:
    pixels = np.arange(images, dtype=np.uint8)
    parts = list(sized_parts(pixels))
    assert [size for _, size in parts] == sizes
    assert all(len(part) <= size for part, size in parts)
    assert np.array_equal(np.concatenate([part for part, _ in parts]), pixels)


def test_no_session_ever_meets_another_size(
    opened: list[Noting], made_artifact: MadeArtifact, images: NDArray[np.uint8]
) -> None:
    sessions = of_few_sizes(opened, made_artifact.folder)
    expected = InParts(opened[0].session).run(OUTPUTS, INPUT, images)[0]
    for n in (1, 9, 3, 16, 1, 60, 2):
        parts = sessions.run(OUTPUTS, INPUT, images[:n])
        for found, whole in zip(zip(*parts, strict=True), expected, strict=True):
            np.testing.assert_allclose(np.concatenate(found), whole[:n], rtol=1e-4, atol=1e-4)
    assert sorted(sorted(set(session.sizes)) for session in opened) == [[1], [4], [16]]


def test_threads_that_need_the_same_size_open_it_once(
    opened: list[Noting], made_artifact: MadeArtifact, images: NDArray[np.uint8]
) -> None:
    sessions = of_few_sizes(opened, made_artifact.folder)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: sessions.run(OUTPUTS, INPUT, images[:n]), [1, 2, 3, 4] * 8))
    assert len(opened) == 2


def test_a_graph_that_answers_with_too_few_rows_is_found_out(
    made_artifact: MadeArtifact, opened: list[Noting], images: NDArray[np.uint8]
) -> None:
    class Forgetful(Noting):
        def run(self, outputs: Sequence[str], feed: dict[str, NDArray[np.uint8]]) -> Any:
            return [rows[:2] for rows in super().run(outputs, feed)]

    predictor = Predictor(made_artifact.folder, device="cpu")
    predictor._sessions = OfFewSizes(Forgetful(opened[0].session), lambda: opened[0])
    with pytest.raises(PredictionFailed, match="for 3 images; expected"):
        predictor.predict(images[:3])


def test_a_session_that_cannot_be_opened_is_an_error_of_the_prediction(
    artifact: Path, opened: list[Noting], images: NDArray[np.uint8]
) -> None:
    predictor = Predictor(artifact, device="cpu")
    predictor._sessions = of_few_sizes(opened, artifact)
    predictor.predict(images[:1])
    (artifact / "model.onnx").unlink()
    predictor.predict(images[:1])
    with pytest.raises(PredictionFailed, match="failed on a batch of 2"):
        predictor.predict(images[:2])
