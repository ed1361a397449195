"""Sketches of what versions answer, from the workers' replies to the database, where all gateways' add up.

What a lost reply, a worker or a gateway that dies takes along is not counted: drift shows without it.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from models.drift.sketch import OtherBins, Sketch
from service.batcher import VersionKey
from storage.errors import NotFound, StorageError
from storage.sketches import SketchBook, hour_of

# Versions and hours that wait for a database that is away; what is older goes.
MOST_WAITING = 1000
Hour = tuple[str, int, datetime]
log = structlog.get_logger()


class ServedSketches:
    """Gathers sketches in memory and adds them to the `book` at times. Used by the event loop alone."""

    def __init__(self, book: SketchBook) -> None:
        self._book = book
        self._waiting: dict[Hour, Sketch] = {}
        self._writing = asyncio.Lock()

    def record(self, version: VersionKey, sketch: Sketch) -> None:
        """What came with a reply is left out where it does not add up."""
        if not sketch.is_whole:
            log.error("sketches.malformed", model=version.model, version=version.version)
            return
        self._add((version.model, version.version, hour_of(datetime.now(UTC))), sketch)

    async def run(self, interval_s: float) -> None:
        """Write again and again, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.write()

    async def write(self) -> None:
        """Add what has come to the database; what it cannot take now is tried the next time."""
        async with self._writing:
            taken, self._waiting = self._waiting, {}
            if not taken:
                return
            for hour, sketch in (await asyncio.to_thread(self._write, taken)).items():
                self._add(hour, sketch)

    def _write(self, taken: Mapping[Hour, Sketch]) -> dict[Hour, Sketch]:
        """What is left."""
        left = dict(taken)
        for (model, number, hour), sketch in taken.items():
            try:
                self._book.add(model, number, hour, sketch.to_dict(), _plus)
            except NotFound:
                log.info("sketches.version_gone", model=model, version=number)
            except OtherBins as error:
                log.error("sketches.other_bins", model=model, version=number, reason=str(error))
            except StorageError as error:
                log.warning("sketches.not_written", reason=str(error))
                break
            del left[model, number, hour]
        return left

    def _add(self, hour: Hour, sketch: Sketch) -> None:
        present = self._waiting.get(hour)
        if present is None and len(self._waiting) >= MOST_WAITING:
            del self._waiting[min(self._waiting, key=lambda waiting: waiting[2])]
        try:
            self._waiting[hour] = sketch if present is None else present + sketch
        except OtherBins as error:
            log.error("sketches.other_bins", model=hour[0], version=hour[1], reason=str(error))


def _plus(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return (Sketch.from_dict(first) + Sketch.from_dict(second)).to_dict()
