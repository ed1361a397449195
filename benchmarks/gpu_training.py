"""A training on images, by Fovea or PyTorch's tutorial: `python -m benchmarks.gpu_training WHO`, JSON on stdin.

Both learn all layers of the same network from the same photographs, with as many epochs and images in a step, in a
process of their own that starts with nothing kept. What each spends on decoding, starting and importing counts.
"""

import hashlib
import io
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = 4
# Of each class, so many validate.
VALIDATION_SHARE = 8
LEARNING_RATE = 0.001


class TrainingFailed(Exception):
    """A process that trained ended with an error; the text is its last lines."""


@dataclass(frozen=True)
class TrainingPlan:
    model: str
    device: str
    images: int
    epochs: int
    batch_size: int


@dataclass(frozen=True)
class Trained:
    """`seconds` from the process's start to its end; the rate is that of the median epoch's steps."""

    name: str
    seconds: float
    images_per_second: float
    precision: str


def measure_training(kind: str, devices: int, plan: TrainingPlan, images: Path, work: Path) -> Trained:
    """One training, in `work`, which is emptied. Raises TrainingFailed."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    given = json.dumps({"plan": asdict(plan), "devices": devices, "images": str(images), "work": str(work)})
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.gpu_training", kind]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise TrainingFailed("\n".join([f"{kind} failed:", *done.stderr.strip().splitlines()[-12:]]))
    told = json.loads(done.stdout.strip().splitlines()[-1])
    name = kind if devices == 1 else f"{kind}, {devices} devices"
    return Trained(name, seconds, told["images_per_second"], told["precision"])


def write_photographs(folder: Path, sources: Sequence[Path], count: int) -> Path:
    """`count` different JPEG files in `train/CLASS` and `val/CLASS`, cut from the sources."""
    random = np.random.default_rng(0)
    pictures = []
    for path in sources:
        with Image.open(path) as image:
            pictures.append(image.convert("RGB").resize((600, 450)))
    for number in range(count):
        part = "val" if number // CLASSES % VALIDATION_SHARE == 0 else "train"
        place = folder / part / f"class-{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        left, top = int(random.integers(0, 101)), int(random.integers(0, 76))
        crop = pictures[number % len(pictures)].crop((left, top, left + 500, top + 375))
        crop.save(place / f"{number:06d}.jpg", quality=90)
    return folder


def fovea(plan: TrainingPlan, devices: int, images: Path, work: Path) -> dict[str, Any]:
    """As a trainer does it, from files to a trained network."""
    import torch

    from models.training.batches import get_ready_to_load
    from models.training.checkpoint import Checkpoints
    from models.training.features import FeatureCache
    from models.training.inputs import prepare_inputs
    from models.training.parallel import Devices
    from models.training.precision import Precision
    from models.training.recipe import Recipe
    from models.training.split import ImageList, Split
    from models.training.train import train
    from models.weights.loading import default_preprocessing
    from models.zoo.registry import build, get
    from system.cores import usable_cores

    def listed(part: str) -> ImageList:
        paths = tuple(sorted((images / part).glob("*/*.jpg")))
        targets = np.array([int(path.parent.name.partition("-")[2]) for path in paths], np.int64)
        sha256 = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
        return ImageList(paths, targets, tuple(path.name for path in paths), sha256)

    labels = tuple(f"class-{number}" for number in range(CLASSES))
    nothing = ImageList((), np.zeros(0, np.int64), (), ())
    split = Split(labels, listed("train"), listed("val"), nothing, "files")
    preprocessing = default_preprocessing(get(plan.model))
    if plan.device == "cuda":
        get_ready_to_load()
    inputs = prepare_inputs(split, preprocessing, work / "pixels", threads=usable_cores())
    recipe = Recipe(
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        patience=None,
        optimizer="sgd",
        learning_rate=LEARNING_RATE,
        batch_norm="trained",
    )
    watcher = Stopwatch()
    device = torch.device(plan.device)
    train(
        build(plan.model, num_classes=CLASSES),
        inputs,
        recipe,
        strategy="full",
        pretrained=False,
        seed=0,
        device=device,
        watcher=watcher,
        cache=FeatureCache(work / "features"),
        checkpoints=Checkpoints(work / "job" / "checkpoints", "bench"),
        devices=Devices(devices),
    )
    rate = len(split.train) / statistics.median(watcher.seconds)
    return {"images_per_second": rate, "precision": Precision(device, recipe.mixed_precision).describe()}


@dataclass
class Stopwatch:
    """Follows a training for how long its epochs' steps take."""

    seconds: list[float] = field(default_factory=list)

    def check(self) -> None: ...
    def phase(self, name: str) -> None: ...
    def progress(self, done: int, total: int) -> None: ...
    def step(self, record: Any) -> None: ...
    def evaluating(self, done: int, total: int) -> None: ...

    def epoch(self, record: Any) -> None:
        self.seconds.append(record.seconds)


def tutorial(plan: TrainingPlan, images: Path) -> dict[str, Any]:
    """PyTorch's "Transfer Learning for Computer Vision Tutorial": its transforms, loaders and loop."""
    import torch
    from torch import nn, optim
    from torch.optim import lr_scheduler
    from torchvision import datasets, models, transforms

    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    views = {
        "train": transforms.Compose(
            [
                transforms.RandomResizedCrop(224),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                normalise,
            ]
        ),
        "val": transforms.Compose(
            [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalise]
        ),
    }
    found = {part: datasets.ImageFolder(images / part, views[part]) for part in ("train", "val")}
    loaders = {
        part: torch.utils.data.DataLoader(found[part], batch_size=plan.batch_size, shuffle=True, num_workers=4)
        for part in ("train", "val")
    }
    device = torch.device(plan.device)
    network = models.get_model(plan.model, weights=None, num_classes=CLASSES).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    seconds, best = [], -1.0
    kept = io.BytesIO()
    for _ in range(plan.epochs):
        for part in ("train", "val"):
            network.train(part == "train")
            running_loss, running_corrects = 0.0, 0.0
            began = time.perf_counter()
            for inputs, labels in loaders[part]:
                inputs, labels = inputs.to(device), labels.to(device)
                optimizer.zero_grad()
                with torch.set_grad_enabled(part == "train"):
                    outputs = network(inputs)
                    _, predictions = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if part == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += float(torch.sum(predictions == labels.data))
            if part == "train":
                seconds.append(time.perf_counter() - began)
                scheduler.step()
            elif running_corrects > best:
                best = running_corrects
                kept = io.BytesIO()
                torch.save(network.state_dict(), kept)
    kept.seek(0)
    network.load_state_dict(torch.load(kept, weights_only=True))
    return {"images_per_second": len(found["train"]) / statistics.median(seconds), "precision": "float32"}


def main() -> int:
    given = json.loads(sys.stdin.read())
    plan, images = TrainingPlan(**given["plan"]), Path(given["images"])
    if sys.argv[1] == "tutorial":
        told = tutorial(plan, images)
    else:
        told = fovea(plan, given["devices"], images, Path(given["work"]))
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
