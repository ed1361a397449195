"""Cards written by a fine-tune's own function."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cards import manifest_of, metrics_of

from models.artifact import Manifest
from models.card.finetuned import write_finetuned_card
from models.training.linear import Trial
from models.training.pixels import Pixels
from models.training.progress import EpochRecord

Written = tuple[str, str]


@pytest.fixture
def card(tmp_path: Path) -> Callable[..., Written]:
    """Writes a fine-tune's card and gives its Markdown and its HTML."""

    def write(
        labels: tuple[str, ...] = ("ant", "bee"), manifest: Manifest | None = None, **changes: Any
    ) -> Written:
        metrics = metrics_of(labels)
        pieces: dict[str, Any] = {
            "validation": metrics,
            "test": None,
            "history": [EpochRecord(i, 1 / i, 0.5, 1 / i, 0.6, 0.1, 1.0) for i in (1, 2, 3)],
            "trials": [Trial(l2, a, l2, 0.5) for l2 in (0.01, 0.1, 1.0) for a in (False, True)],
            "pictures": Pixels(np.random.default_rng(0).integers(0, 255, (30, 32, 32, 3), np.uint8)),
            "earlier": [],
            **changes,
        }
        write_finetuned_card(tmp_path, manifest or manifest_of(labels, metrics), **pieces)
        return (tmp_path / "card.md").read_text(), (tmp_path / "card.html").read_text()

    return write
