"""A subject of which nothing is there but what a finder of figures looks at."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from torch import nn

from models.findings.subject import Subject
from models.training.embedded import EmbeddedImages, EmbeddedSplit
from models.training.recipe import read_recipe
from models.training.split import ImageList

LABELS = ("ant", "bee", "wasp")
MakeSubject = Callable[..., Subject]


def drawn(images: int, seed: int) -> EmbeddedImages:
    """Features around three means, in turn, and logits that are mostly right."""
    rng = np.random.default_rng(seed)
    targets = np.arange(images, dtype=np.int64) % 3
    means = np.random.default_rng(7).normal(size=(3, 12))
    embedding = (means[targets] + rng.normal(size=(images, 12))).astype(np.float32)
    logits = rng.normal(size=(images, 3)).astype(np.float32)
    logits[np.arange(images), targets] += 3
    rows = np.arange(images, dtype=np.int64)
    return EmbeddedImages(ImageList((), targets, (), ()), rows, logits, embedding)


@pytest.fixture
def subject() -> MakeSubject:
    def make(*, train: int = 120, validation: int = 150, test: int = 0, head: bool = True, epochs: int = 1) -> Any:
        embedded = EmbeddedSplit(drawn(train, 0), drawn(validation, 1), drawn(test, 2))
        result = SimpleNamespace(history=[None] * epochs)
        return Subject(
            folder=Path(),
            model=Path("model.onnx"),
            architecture="lenet5",
            network=nn.Identity(),
            inputs=cast(Any, SimpleNamespace(split=SimpleNamespace(labels=LABELS))),
            trained=cast(Any, SimpleNamespace(result=result, head=SimpleNamespace(l2=0.1) if head else None)),
            embedded=embedded,
            temperature=1.0,
            recipe=read_recipe("default"),
            seed=3,
            cache=Path(),
            threads=1,
        )

    return make
