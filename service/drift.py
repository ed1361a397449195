"""Whether what a version is sent is still what it was validated on: told on request and as metrics."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog
from cachetools import LRUCache

from models.drift.comparison import (
    FEWEST_IMAGES,
    LEAST_DISTANCE,
    LEAST_SHIFT,
    LEVEL,
    Compared,
    Comparison,
    compare,
)
from models.drift.reference import FINDING, Reference, reference_of
from models.drift.sketch import OtherBins, Sketch, total
from storage.errors import StorageError
from storage.registry import ModelRegistry, Version
from storage.sketches import SketchBook, hour_of

Window = Literal["hour", "day", "all"]
State = Literal["off", "no_reference", "too_few", "none", "drift"]
# Sketches are kept by the hour: a window begins with the hour that was going on then.
LENGTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
WATCHED = LENGTHS["day"]
MOST_KNOWN = 1024
OFF = "This gateway looks at nothing for drift: FOVEA_DRIFT is false."
log = structlog.get_logger()


@dataclass(frozen=True)
class DriftReport:
    """`since` is when the first hour began of which there is a sketch; quantities are there once it is enough."""

    model: str
    version: int
    window: Window
    state: State
    conclusion: str
    images: int = 0
    reference_images: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    quantities: tuple[Compared, ...] = ()
    embedding: Compared | None = None
    level: float = LEVEL
    least_distance: float = LEAST_DISTANCE
    least_shift: float = LEAST_SHIFT
    fewest_images: int = FEWEST_IMAGES


@dataclass(frozen=True)
class DriftFigure:
    """Of a served version: the greatest distance of its quantities, and whether that and others are a drift."""

    model: str
    distance: float
    is_drift: bool


class DriftWatch:
    """Compares the sketches in the `book` with the references in the versions' manifests; for any thread.

    Of `most_models` there are figures.
    """

    def __init__(self, book: SketchBook, registry: ModelRegistry, *, is_on: bool, most_models: int) -> None:
        self.is_on, self._most = is_on, most_models
        self._book, self._registry = book, registry
        self._references: LRUCache[tuple[str, int], Reference | None] = LRUCache(MOST_KNOWN)
        self._lock = threading.Lock()

    def report(self, version: Version, window: Window) -> DriftReport:
        """Raises DatabaseUnavailable."""
        model, number, until = version.model, version.number, datetime.now(UTC)
        if not self.is_on:
            return DriftReport(model, number, window, "off", OFF)
        reference = reference_of(version.manifest)
        if reference is None:
            return DriftReport(model, number, window, "no_reference", _no_reference(version))
        since, served = self._served(model, number, _began(window, until))
        images = served.images if served else 0
        told: dict[str, Any] = {
            "images": images,
            "reference_images": reference.images,
            "since": since,
            "until": until,
        }
        if served is None or images < FEWEST_IMAGES:
            conclusion = (
                f"{_images(images)} answered{_in_window(window)}; it takes {FEWEST_IMAGES} to say anything."
            )
            return DriftReport(model, number, window, "too_few", conclusion, **told)
        try:
            found = compare(reference, served)
        except OtherBins as error:
            log.error("drift.other_bins", model=model, version=number, reason=str(error))
            return DriftReport(model, number, window, "no_reference", _no_reference(version))
        state: State = "drift" if found.drifted else "none"
        conclusion = _conclusion(found, reference.comparisons)
        told |= {"quantities": found.quantities, "embedding": found.embedding}
        return DriftReport(model, number, window, state, conclusion, **told)

    def figures(self) -> tuple[DriftFigure, ...] | None:
        """Of the versions that models' bare names mean, over the last day, where enough was served.

        None where the database does not answer.
        """
        if not self.is_on:
            return ()
        until, found = datetime.now(UTC), []
        try:
            for model, number in self._book.served(hour_of(until - WATCHED), self._most):
                reference = self._reference(model, number)
                _, served = self._served(model, number, hour_of(until - WATCHED))
                if reference and served and served.images >= FEWEST_IMAGES and served.shape == reference.shape:
                    compared = compare(reference, served)
                    found.append(DriftFigure(model, compared.distance, bool(compared.drifted)))
        except StorageError as error:
            log.warning("drift.database_unavailable", reason=str(error))
            return None
        return tuple(found)

    def _reference(self, model: str, number: int) -> Reference | None:
        """A version's never changes, and no number is given twice."""
        with self._lock:
            if (model, number) in self._references:
                return self._references[model, number]
        found = reference_of(self._registry.get_version(model, number).manifest)
        with self._lock:
            self._references[model, number] = found
        return found

    def _served(self, model: str, number: int, since: datetime | None) -> tuple[datetime | None, Sketch | None]:
        """When the first hour began that has a sketch, and what they make together."""
        hours = self._book.read(model, number, since)
        try:
            return (hours[0].hour if hours else None), total(Sketch.from_dict(each.sketch) for each in hours)
        except OtherBins as error:
            log.error("drift.other_bins", model=model, version=number, reason=str(error))
            return None, None


def _began(window: Window, until: datetime) -> datetime | None:
    """None where it never did."""
    return hour_of(until - LENGTHS[window]) if window in LENGTHS else None


def _no_reference(version: Version) -> str:
    missing = ((version.manifest.get("findings") or {}).get(FINDING) or {}).get("missing")
    why = missing or "It was not fine-tuned here, or by a release before this one; a fine-tune makes one."
    return f"{version.model}:{version.number} has nothing to compare served images with. {why}"


def _in_window(window: Window) -> str:
    return {"hour": " in this hour and the last", "day": " since this hour yesterday", "all": ""}[window]


def _images(count: int) -> str:
    return f"{count:,} image was" if count == 1 else f"{count:,} images were"


def _conclusion(found: Comparison, tests: int) -> str:
    if not found.drifted:
        return (
            f"The {found.images:,} images that were answered are like the {found.reference_images:,} validation "
            f"images: none of {tests} comparisons differs by more than chance and enough to matter."
        )
    text = (
        f"The {found.images:,} images that were answered differ from the {found.reference_images:,} validation "
        f"images: {'; '.join(each.text for each in found.drifted)}."
    )
    if found.is_of_frequencies:
        text += (
            " The answers are as sure as they were, so it may be no more than that some classes come more often "
            "than among the validation images, and others less."
        )
    return text
