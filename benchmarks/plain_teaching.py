"""The same teaching by a plain script: `python -m benchmarks.plain_teaching ARCHITECTURE FOLDER MODEL`.

A fresh process that imports PyTorch, decodes each photograph of `FOLDER/train` and `FOLDER/val` once, fits a
logistic regression to one view of each, measures it, and exports the network: what a careful person writes first.
Prints its accuracy as JSON.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from sklearn.linear_model import LogisticRegression
from torch import nn

from benchmarks.artifacts import weights_folder
from models.normalise import Normalise
from models.spec import Preprocessing
from models.weights.loading import build_with_weights
from models.weights.store import WeightsStore
from models.zoo.layout import split_network

BATCH = 32


def main(architecture: str, folder: Path, model: Path) -> None:
    store = WeightsStore(weights_folder() or Path("weights"), offline=True)
    labels = sorted(path.name for path in (folder / "train").iterdir())
    network, loaded = build_with_weights(architecture, "imagenet", store, len(labels))
    backbone, head = split_network(network.eval())
    if not isinstance(head, nn.Linear):
        sys.exit(f"{architecture} has no single linear head")
    view, found = loaded.preprocessing, {}
    for part in ("train", "val"):
        pictures = [
            (_picture(path, view), labels.index(label))
            for label in labels
            for path in sorted((folder / part / label).iterdir())
            if _is_image(path)
        ]
        pixels = np.stack([picture for picture, _ in pictures])
        found[part] = (_features(backbone, pixels, view), np.array([target for _, target in pictures]))
    regression = LogisticRegression(C=0.1, max_iter=1000).fit(*found["train"])
    with torch.no_grad():
        _set_head(head, regression)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(2, 3, view.height, view.width)
        torch.onnx.export(network, (example,), model, dynamo=True, external_data=False, verbose=False)
    print(json.dumps({"accuracy": regression.score(*found["val"]), "images": len(found["val"][1])}))


def _set_head(head: nn.Linear, regression: LogisticRegression) -> None:
    """scikit-learn's head for two classes has one row: the second class's logit, less the first one's."""
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    head.weight.copy_(torch.from_numpy(weight))
    head.bias.copy_(torch.from_numpy(bias))


@torch.inference_mode()
def _features(backbone: nn.Module, pixels: NDArray[np.uint8], view: Preprocessing) -> NDArray[np.float32]:
    normalise = Normalise(view)
    parts = [
        backbone(normalise(torch.from_numpy(pixels[start : start + BATCH]))).numpy()
        for start in range(0, len(pixels), BATCH)
    ]
    return np.concatenate(parts)


def _picture(path: Path, view: Preprocessing) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        whole = image.convert("RGB")
    scale = view.resize / min(whole.size)
    resized = whole.resize((round(whole.width * scale), round(whole.height * scale)), Image.Resampling.BILINEAR)
    left, top = (resized.width - view.width) // 2, (resized.height - view.height) // 2
    return np.asarray(resized.crop((left, top, left + view.width, top + view.height)))


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.verify()
    except (UnidentifiedImageError, OSError, SyntaxError):
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
