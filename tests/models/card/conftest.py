"""Cards written by a fine-tune's own function."""

from collections.abc import Callable
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


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Written]:
    """Gives the Markdown and the HTML of a fine-tune's card; where only its labels are told it is written once."""
    folder = tmp_path_factory.mktemp("cards")
    written: dict[tuple[str, ...], Written] = {}

    def give(labels: tuple[str, ...] = ("ant", "bee"), *, anew: bool = False, **told: Any) -> Written:
        if told or anew:
            return write(labels, **told)
        if labels not in written:
            written[labels] = write(labels)
        return written[labels]

    def write(labels: tuple[str, ...], manifest: Manifest | None = None, **changes: Any) -> Written:
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
        write_finetuned_card(folder, manifest or manifest_of(labels, metrics), **pieces)
        return (folder / "card.md").read_text(), (folder / "card.html").read_text()

    return give
