"""A model file from job to version: an ONNX graph, a checkpoint, and what each says where it cannot be served."""

import hashlib
import pickle
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.model_files import LABELS, VIEW, WRONG, laborious, onnx_file
from support.teaching import colour_dataset
from support.trainer import Trainer, end

from models.artifact import verify
from models.photographs import photographs
from models.predictor import Predictor
from models.weights.labels import imagenet_labels
from models.zoo.registry import build
from storage.ids import new_id
from storage.job_ledger import Job, JobState
from storage.registry import Version

DIGITS = tuple("0123456789")


def send(trainer: Trainer, content: bytes, kind: str = "onnx", model: str = "mine", **asked: Any) -> Job:
    """As the gateway leaves an upload: blob and job."""
    job_id = new_id("job")
    key = f"jobs/{job_id}/upload"
    trainer.blobs.put_bytes(key, content)
    facts = {"labels", "preprocessing", "output", "values", "licence", "trained_on"}
    upload = {
        "key": key,
        "name": f"theirs.{kind}",
        "kind": kind,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        **{name: value for name, value in asked.items() if name in facts},
    }
    rest = {name: value for name, value in asked.items() if name not in facts}
    request = {"model": model, "architecture": "onnx", "weights": "uploaded", **rest, "upload": upload}
    return trainer.ledger.create("publish", request, job_id=job_id)


def published(trainer: Trainer, content: bytes, kind: str = "onnx", **asked: Any) -> Version:
    ended = trainer.run_here(send(trainer, content, kind, **asked))
    assert ended.state == JobState.SUCCEEDED, ended.error
    assert not trainer.blobs.list(f"jobs/{ended.id}")
    return trainer.registry.resolve(str(asked.get("model", "mine")))


def refused(trainer: Trainer, content: bytes, kind: str = "onnx", **asked: Any) -> dict[str, str]:
    ended = trainer.run_here(send(trainer, content, kind, **asked))
    assert ended.state == JobState.FAILED
    assert ended.attempt == 1
    assert not trainer.registry.list_models(10, None).items
    assert not trainer.blobs.list("models")
    assert not trainer.blobs.list(f"jobs/{ended.id}")
    assert ended.error is not None
    assert str(trainer.folder) not in ended.error["detail"]
    return ended.error


def predictor_of(trainer: Trainer, version: Version, into: Path) -> Predictor:
    keys = trainer.blobs.list(version.artifact)
    for key in keys:
        (into / key.removeprefix(f"{version.artifact}/")).parent.mkdir(parents=True, exist_ok=True)
    trainer.blobs.get_files([(key, into / key.removeprefix(f"{version.artifact}/")) for key in keys])
    verify(into)
    return Predictor(into, device="cpu")


def network(architecture: str = "lenet5", classes: int = 10, channels: int = 3) -> torch.nn.Module:
    torch.manual_seed(5)
    return build(architecture, classes, channels).eval()


def saved(state: object, folder: Path, kind: str = "pth") -> bytes:
    path = folder / f"saved.{kind}"
    if kind == "safetensors":
        save_file(state, path)  # type: ignore[arg-type]
    else:
        torch.save(state, path)
    return path.read_bytes()


def test_a_graph_becomes_a_version_with_a_card(trainer: Trainer, tmp_path: Path) -> None:
    version = published(
        trainer, onnx_file(), labels=LABELS, preprocessing=VIEW, licence="MIT", trained_on="insects"
    )
    assert (version.architecture, version.labels) == ("onnx", LABELS)
    manifest = version.manifest
    assert manifest["weights"]["origin"] == "upload"
    assert manifest["weights"]["filename"] == "theirs.onnx"
    assert manifest["parity"]["compared"] == "logits"
    kernels = manifest["findings"]["filters"]["kernels"]
    assert (kernels["layer"], kernels["count"], kernels["channels"]) == ("filters", 8, 3)
    assert "filters/kernels.png" in manifest["files"]
    assert trainer.registry.get_model("mine").aliases["production"] == 1
    card = trainer.blobs.get_bytes(f"{version.artifact}/card.md").decode()
    for said in (
        "an uploaded ONNX file, 3 classes",
        "theirs.onnx",
        "MIT",
        "insects",
        "1 Conv",
        "100% of 16 images",
    ):
        assert said in card, said
    assert "cannot" not in card.partition("## Where it comes from")[2]
    predictor = predictor_of(trainer, version, tmp_path / "there")
    assert predictor.predict(photographs(predictor.preprocessing, 3)).probabilities.shape == (3, 3)
    assert predictor.outputs == ("logits", "probabilities", "embedding", "feature_map")


@pytest.mark.slow
def test_a_version_that_was_downloaded_is_uploaded_again(trainer: Trainer) -> None:
    first = published(trainer, onnx_file(), labels=LABELS, preprocessing=VIEW)
    content = trainer.blobs.get_bytes(f"{first.artifact}/model.onnx")
    again = published(trainer, content, model="again")
    assert again.labels == LABELS
    assert again.manifest["preprocessing"] == first.manifest["preprocessing"]
    assert again.manifest["outputs"] == first.manifest["outputs"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("a custom operator", "model_file_refused"),
        ("a loop without end", "model_file_refused"),
        ("any size", "invalid_request"),
        ("cut short", "model_file_refused"),
    ],
)
def test_a_wrong_graph_fails_the_job_once(trainer: Trainer, name: str, code: str) -> None:
    make, _ = WRONG[name]
    error = refused(trainer, make(), labels=LABELS, preprocessing=VIEW)
    assert error["code"] == code


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at a parent's death is Linux's")
def test_a_killed_trainer_leaves_no_process_that_reads_the_file(trainer: Trainer) -> None:
    job = send(trainer, laborious(2048, 400), labels=LABELS, preprocessing=VIEW)
    process = trainer.start(job)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def reading() -> list[str]:
        return [child for child in children.read_text().split() if "models.uploaded.prepare" in command_of(child)]

    try:
        trainer.wait_for_phase(job, "verifying")
        trainer.wait_until(lambda: bool(reading()), "the process that reads the file")
        (child,) = reading()
    finally:
        end(process)
    trainer.wait_until(lambda: "models.uploaded.prepare" not in command_of(child), "its end", 30)


def command_of(process: str) -> str:
    """Empty for one that is gone, and for one whose end nobody has asked for yet."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def test_a_file_that_was_changed_among_the_blobs_is_refused(trainer: Trainer) -> None:
    job = send(trainer, onnx_file(), labels=LABELS, preprocessing=VIEW)
    trainer.blobs.put_bytes(f"jobs/{job.id}/upload", onnx_file() + b"\0")
    ended = trainer.run_here(job)
    assert ended.error is not None
    assert ended.error["detail"] == "theirs.onnx is not what was sent any more; send it again"


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_checkpoint_becomes_a_version_that_can_be_learnt_on_from(
    trainer: Trainer, tmp_path: Path, kind: str
) -> None:
    net = network()
    state = saved({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path, kind)
    version = published(trainer, state, kind, architecture="lenet5", labels=DIGITS)
    assert version.architecture == "lenet5"
    assert {"model.onnx", "weights.safetensors", "card.md"} <= set(version.manifest["files"])
    predictor = predictor_of(trainer, version, tmp_path / "there")
    images = photographs(predictor.preprocessing, 4)
    found = predictor.predict(images)
    from models.served import Served

    with torch.inference_mode():
        logits, _ = Served(net, predictor.preprocessing)(torch.from_numpy(images))
    assert np.allclose(found.logits, logits.numpy(), rtol=1e-3, atol=1e-4)
    card = trainer.blobs.get_bytes(f"{version.artifact}/card.md").decode()
    assert "lenet5 with uploaded weights, 10 classes" in card
    dataset = trainer.add_dataset(colour_dataset(tmp_path / "colours", per_class=8))
    job = trainer.create(
        model="on", dataset=dataset, architecture="lenet5", weights="mine:1", recipe={"epochs": 1}
    )
    ended = trainer.run_here(job)
    assert ended.state == JobState.SUCCEEDED, ended.error
    assert trainer.registry.resolve("on").manifest["weights"]["origin"] == "model"


def test_a_grey_checkpoint_is_served_grey(trainer: Trainer, tmp_path: Path) -> None:
    state = saved(network(channels=1).state_dict(), tmp_path)
    version = published(trainer, state, "pth", architecture="lenet5", labels=DIGITS)
    predictor = predictor_of(trainer, version, tmp_path / "there")
    colours = photographs(predictor.preprocessing, 4)
    grey = np.repeat((colours @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None], 3, 3)
    apart = predictor.predict(colours).probabilities - predictor.predict(grey).probabilities
    assert np.abs(apart).max() < 0.05


@pytest.mark.slow
def test_labels_of_imagenet_and_the_architectures_own_preprocessing(trainer: Trainer, tmp_path: Path) -> None:
    state = saved(network("mobilenet_v1_025", 1000).state_dict(), tmp_path)
    version = published(trainer, state, "pth", architecture="mobilenet_v1_025", labels="imagenet")
    assert version.labels == imagenet_labels()
    assert tuple(version.manifest["preprocessing"]["mean"]) == (0.5, 0.5, 0.5)


def bomb(_folder: Path) -> bytes:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("bang",))

    return pickle.dumps({"fc.weight": Bomb()}, protocol=2)


def wrapped_bomb(folder: Path) -> bytes:
    """In the archive that torch.save writes."""
    saved({"fc.weight": torch.zeros(2)}, folder)
    with zipfile.ZipFile(folder / "saved.pth") as archive, zipfile.ZipFile(folder / "bomb.pth", "w") as target:
        for member in archive.namelist():
            content = bomb(folder) if member.endswith("data.pkl") else archive.read(member)
            target.writestr(member, content)
    return (folder / "bomb.pth").read_bytes()


def compressed(folder: Path) -> bytes:
    """A gigabyte of zeros in a megabyte."""
    with zipfile.ZipFile(folder / "big.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 2**24)
    return (folder / "big.pth").read_bytes()


def of(architecture: str, classes: int = 10) -> Any:
    return lambda folder: saved(network(architecture, classes).state_dict(), folder)


def without_a_layer(folder: Path) -> bytes:
    state = network("resnet18").state_dict()
    return saved({name: value for name, value in state.items() if not name.startswith("layer3")}, folder)


def diverged(folder: Path) -> bytes:
    state = network().state_dict()
    next(iter(state.values()))[:] = float("nan")
    return saved(state, folder)


@pytest.mark.parametrize(
    ("make", "architecture", "code", "said"),
    [
        (bomb, "resnet18", "weights_corrupt", "could run code when read; only tensors by name"),
        (wrapped_bomb, "resnet18", "weights_corrupt", "could run code when read; only tensors by name"),
        (compressed, "resnet18", "weights_corrupt", "compressed archive, which torch.save does not write"),
        (lambda folder: of("lenet5")(folder)[:-300], "lenet5", "weights_corrupt", "damaged"),
        (of("resnet34"), "resnet18", "weights_mismatch", "Its tensors are those of resnet34: give that"),
        (of("mobilenet_v2"), "resnet18", "weights_mismatch", "no fc.weight.*those of mobilenet_v2"),
        (without_a_layer, "resnet18", "weights_mismatch", r"missing: layer3\.0\.conv1\.weight"),
        (diverged, "lenet5", "weights_corrupt", "no numbers"),
        (of("lenet5", 12), "lenet5", "invalid_request", "labels: got 10 .*tells 12 classes apart"),
        (of("lenet5"), "lenet6", "unknown_architecture", "did you mean lenet5"),
    ],
    ids=[
        "pickle", "pickle in zip", "compressed", "cut short", "resnet34", "mobilenet", "layer", "NaN", "12",
        "name",
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_wrong_checkpoint_is_told_what_it_is(
    trainer: Trainer, tmp_path: Path, make: Any, architecture: str, code: str, said: str
) -> None:
    error = refused(trainer, make(tmp_path), "pth", architecture=architecture, labels=DIGITS)
    assert error["code"] == code
    assert re.search(said, error["detail"], re.DOTALL), error["detail"]


def test_a_graph_cannot_be_learnt_on_from_and_says_so(trainer: Trainer, tmp_path: Path) -> None:
    published(trainer, onnx_file(), labels=LABELS, preprocessing=VIEW)
    dataset = trainer.add_dataset(colour_dataset(tmp_path / "colours", per_class=8))
    job = trainer.create(model="on", dataset=dataset, architecture="lenet5", weights="mine:1")
    ended = trainer.run_here(job)
    assert ended.error is not None
    assert ended.error["code"] == "invalid_request"
    assert "mine:1 was uploaded as an ONNX file, which can be served but not trained" in ended.error["detail"]


@pytest.mark.slow
def test_variants_of_a_graph_are_tried_as_any_others(trainer: Trainer, tmp_path: Path) -> None:
    published(trainer, onnx_file(), labels=("red", "green", "blue"), preprocessing=VIEW)
    dataset = trainer.add_dataset(colour_dataset(tmp_path / "colours", per_class=60))
    job = trainer.ledger.create(
        "variants", {"model": "mine", "version": 1, "dataset": dataset, "precisions": ["int8"]}
    )
    ended = trainer.run_here(job)
    assert ended.state == JobState.SUCCEEDED, ended.error
    assert ended.result is not None
    assert ended.result["variants"]["int8"]["images"] > 50
