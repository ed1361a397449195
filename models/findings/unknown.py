"""The detector of a fine-tuned version: chosen, fitted, written into its folder, and told of."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from models.findings.finding import Finding
from models.findings.subject import Subject
from models.spec import EMBEDDING, LOGITS
from models.training.disk import writing
from models.training.graph_run import run_graph
from models.training.pixels import decode
from models.training.split import ImageList
from models.unknown.background import background
from models.unknown.card import HEADING, blocks
from models.unknown.choice import Outputs, candidates, fit_score, values_of
from models.unknown.detector import FILE, FINDING, write_score
from models.unknown.separation import (
    BACKGROUND,
    FALSE_ALARM_RATE,
    NONE,
    auroc,
    fewest_images,
    share_above,
    threshold_of,
)

PIXELS = "pixels"


def find_detector(subject: Subject) -> Finding:
    """Writes the detector's file where its score was fitted to anything.

    Raises what `run_graph` raises, ImageError for one of the `none` images, and OSError on a full disk.
    """
    embedded, foreign = subject.embedded, subject.inputs.split.foreign
    names = [name for name in (LOGITS, EMBEDDING) if name == LOGITS or embedded.train.embedding is not None]
    crops = background(subject.inputs.preprocessing)
    learnt, measuring = (_pixels(subject, part) for part in (foreign.train, foreign.validation))
    seen = list(_run(subject, names, (crops, learnt, measuring)))
    kinds = {BACKGROUND: seen[0], **({NONE: seen[1]} if len(foreign.train) else {})}
    # Of matrices this small several threads take ten times as long, beside other work.
    with threadpool_limits(1):
        ranked = candidates(embedded.train, embedded.validation, kinds)
        score = fit_score(ranked[0].method, embedded.train)
        known = score(values_of(embedded.validation, score))
        others, unseen = (score(outputs[score.output]) for outputs in (seen[0], seen[2]))
    threshold = threshold_of(known)
    if score.arrays:
        with writing(subject.folder / FILE):
            write_score(score, subject.folder / FILE)
    facts: dict[str, Any] = {
        "method": score.method,
        "file": FILE if score.arrays else None,
        "threshold": threshold,
        "false_alarm_rate": FALSE_ALARM_RATE,
        "threshold_images": len(known),
        "fewest_images": fewest_images(),
        "auroc": ranked[0].auroc,
        "separation": {found.method: dict(found.separation) for found in ranked},
        "background_images": len(crops),
        "background_marked": share_above(others, threshold),
        "none_images": {"train": len(foreign.train), "validation": len(foreign.validation)},
        "none_auroc": auroc(known, unseen),
        "none_marked": share_above(unseen, threshold),
    }
    return Finding(FINDING, facts, HEADING, blocks(facts))


def _pixels(subject: Subject, images: ImageList) -> NDArray[np.uint8]:
    return decode(images, subject.inputs.preprocessing, subject.cache / PIXELS, threads=subject.threads).array


def _run(subject: Subject, names: list[str], parts: Iterable[NDArray[np.uint8]]) -> Iterator[Outputs]:
    """What the graph gives for each part, in one session."""
    parts = list(parts)
    shown: Iterator[Tensor] = (torch.from_numpy(np.array(image)) for part in parts for image in part)
    batches = list(run_graph(subject.model, names, shown, threads=subject.threads))
    whole: Mapping[str, NDArray[np.float32]] = {
        name: np.concatenate([batch[place] for batch in batches]) if batches else np.zeros((0, 1), np.float32)
        for place, name in enumerate(names)
    }
    begin = 0
    for part in parts:
        yield {name: values[begin : begin + len(part)] for name, values in whole.items()}
        begin += len(part)
