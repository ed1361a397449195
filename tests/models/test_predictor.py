import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from support.gpu import needs_gpu
from support.small_network import LABELS, TEMPERATURE, MadeArtifact, SmallNetwork

from models.artifact import Manifest, write_manifest
from models.devices import CPU, cuda_problem
from models.errors import (
    ArtifactCorrupt,
    ArtifactNotFound,
    DeviceUnavailable,
    InvalidBatch,
    PredictionFailed,
)
from models.export import to_onnx
from models.parity import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from models.predictor import Predictor
from models.served import Served
from models.spec import OUTPUTS, Preprocessing


@pytest.fixture(scope="module")
def predictor(made_artifact: MadeArtifact) -> Predictor:
    return Predictor(made_artifact.folder, device="cpu")


def test_it_answers_as_torch_does(
    predictor: Predictor, network: SmallNetwork, preprocessing: Preprocessing, images: NDArray[np.uint8]
) -> None:
    with torch.no_grad():
        logits, probabilities = Served(network, preprocessing, temperature=TEMPERATURE)(torch.from_numpy(images))
    prediction = predictor.predict(images)
    np.testing.assert_allclose(prediction.logits, logits.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(prediction.probabilities, probabilities.numpy(), atol=1e-4)


def test_probabilities_sum_to_one_and_belong_to_the_labels(
    predictor: Predictor, images: NDArray[np.uint8]
) -> None:
    prediction = predictor.predict(images)
    assert predictor.labels == LABELS
    assert prediction.probabilities.dtype == prediction.logits.dtype == np.float32
    assert prediction.probabilities.shape == (len(images), len(LABELS))
    np.testing.assert_allclose(prediction.probabilities.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 33])
def test_an_image_has_the_same_answer_in_every_batch(
    predictor: Predictor, images: NDArray[np.uint8], n: int
) -> None:
    alone = np.concatenate([predictor.predict(image[None]).logits for image in images[:n]])
    np.testing.assert_allclose(predictor.predict(images[:n]).logits, alone, rtol=1e-4, atol=1e-4)


def test_threads_share_one_predictor(predictor: Predictor, images: NDArray[np.uint8]) -> None:
    expected = predictor.predict(images).logits
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda i: predictor.predict(images[i % 60 : i % 60 + 3]).logits, range(300)))
    for i, answer in enumerate(answers):
        np.testing.assert_allclose(answer, expected[i % 60 : i % 60 + 3], rtol=1e-4, atol=1e-4)


def test_a_view_of_other_memory_is_read_right(predictor: Predictor, images: NDArray[np.uint8]) -> None:
    backwards = predictor.predict(images[::-1]).logits
    np.testing.assert_allclose(backwards[::-1], predictor.predict(images).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((2, 32, 40, 3), np.float32),
        np.zeros((32, 40, 3), np.uint8),
        np.zeros((2, 3, 32, 40), np.uint8),
        np.zeros((2, 40, 32, 3), np.uint8),
        np.zeros((0, 32, 40, 3), np.uint8),
    ],
    ids=lambda batch: f"{batch.dtype} {batch.shape}",
)
def test_a_batch_that_does_not_fit_is_refused_with_what_was_expected(
    predictor: Predictor, batch: NDArray[np.uint8]
) -> None:
    with pytest.raises(InvalidBatch, match=r"ants-bees takes uint8 \[n, 32, 40, 3\] with n >= 1"):
        predictor.predict(batch)


def test_it_says_where_it_runs(made_artifact: MadeArtifact) -> None:
    predictor = Predictor(made_artifact.folder, device="cpu")
    predictor.warm_up([1, 4, 16])
    assert predictor.provider == CPU
    assert predictor.preprocessing == made_artifact.manifest.preprocessing


@needs_gpu
@pytest.mark.parametrize("n", [1, 3, 16, 60])
def test_cuda_answers_as_the_cpu_does(
    made_artifact: MadeArtifact, predictor: Predictor, images: NDArray[np.uint8], n: int
) -> None:
    on_gpu = Predictor(made_artifact.folder, device="cuda")
    for found, expected in zip(on_gpu.run(images[:n], OUTPUTS), predictor.run(images[:n], OUTPUTS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE)


@needs_gpu
def test_threads_share_one_predictor_on_a_gpu(made_artifact: MadeArtifact, images: NDArray[np.uint8]) -> None:
    on_gpu = Predictor(made_artifact.folder, device="cuda")
    expected = on_gpu.predict(images).logits
    parts = [slice(i % 50, i % 50 + i % 7 + 1) for i in range(200)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda part: on_gpu.predict(images[part]).logits, parts))
    for part, answer in zip(parts, answers, strict=True):
        np.testing.assert_allclose(answer, expected[part], rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(cuda_problem() is None, reason="this machine has a GPU that works")
def test_cuda_without_cuda_is_refused(made_artifact: MadeArtifact) -> None:
    with pytest.raises(DeviceUnavailable, match="device cuda cannot be used"):
        Predictor(made_artifact.folder, device="cuda")


def test_after_closing_it_refuses(made_artifact: MadeArtifact, images: NDArray[np.uint8]) -> None:
    predictor = Predictor(made_artifact.folder, device="cpu")
    predictor.close()
    predictor.close()
    with pytest.raises(PredictionFailed, match="closed"):
        predictor.predict(images)


def test_an_unfinished_artifact_is_not_loaded(artifact: Path) -> None:
    (artifact / "manifest.json").unlink()
    with pytest.raises(ArtifactNotFound):
        Predictor(artifact)


def test_a_changed_model_is_not_loaded(artifact: Path) -> None:
    content = bytearray((artifact / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match="is not the published file"):
        Predictor(artifact)


def test_a_lost_card_does_not_stop_serving(artifact: Path, images: NDArray[np.uint8]) -> None:
    (artifact / "card.md").unlink()
    assert len(Predictor(artifact).predict(images[:1]).logits) == 1


def test_labels_that_do_not_fit_the_graph_are_refused(artifact: Path, made_artifact: MadeArtifact) -> None:
    write_manifest(artifact, replace(made_artifact.manifest, labels=LABELS[:-1]))
    with pytest.raises(ArtifactCorrupt, match="one column for each label"):
        Predictor(artifact)


def test_a_size_that_does_not_fit_the_graph_is_refused(artifact: Path, made_artifact: MadeArtifact) -> None:
    other = Preprocessing(height=32, width=32, resize=32)
    write_manifest(artifact, replace(made_artifact.manifest, preprocessing=other))
    with pytest.raises(ArtifactCorrupt, match=r"expected image: uint8 \[batch, 32, 32, 3\]"):
        Predictor(artifact)


def test_a_graph_of_one_fixed_batch_is_refused(artifact: Path, made_artifact: MadeArtifact) -> None:
    graph = onnx.load(artifact / "model.onnx")
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(graph, artifact / "model.onnx")
    write_manifest(artifact, made_artifact.manifest)
    with pytest.raises(ArtifactCorrupt, match="expected image: uint8"):
        Predictor(artifact)


MEASURE = """
import sys
from pathlib import Path
from models.parity import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from models.predictor import Predictor
from models.spec import OUTPUTS

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

small = Predictor(Path(sys.argv[1]), device="cpu")  # pays for the runtime itself
before = resident()
predictor = Predictor(Path(sys.argv[2]), device="cpu")
predictor.warm_up([1, 8])
print(resident() - before, predictor.memory_bytes)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_the_memory_estimate_is_near_what_a_process_really_needs(artifact: Path, tmp_path: Path) -> None:
    preprocessing = Preprocessing(height=96, width=96, resize=96)
    layers = [torch.nn.Conv2d(3, 64, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(12)]
    wide = torch.nn.Sequential(
        *layers, torch.nn.Flatten(), torch.nn.Linear(64 * 144, 1000), torch.nn.Linear(1000, 2)
    )
    folder = tmp_path / "wide"
    folder.mkdir()
    to_onnx(wide, folder / "model.onnx", preprocessing=preprocessing, labels=("a", "b"))
    write_manifest(
        folder, Manifest(model="w", labels=("a", "b"), preprocessing=preprocessing, architecture="wide")
    )
    command = [sys.executable, "-c", MEASURE, str(artifact), str(folder)]
    used, estimated = map(int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
    assert used / 1.5 < estimated < used * 1.5


@pytest.mark.parametrize(
    "module", ["preprocess", "artifact", "predictor", "devices", "spec", "errors", "photographs"]
)
def test_what_serving_needs_imports_no_torch(module: str) -> None:
    script = f"import models.{module}, sys; print({{'torch', 'torchvision', 'timm', 'onnx'}} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout
    assert output.strip() == "set()"
