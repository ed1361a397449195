"""The models in a worker's memory, within its budget. Knows no images."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from models.drift.sketcher import Sketcher
from models.explanation.head import Head
from models.neighbours.neighbours import Neighbours
from models.predictor import Predictor
from models.unknown.detector import Detector, read_detector
from system.memory import trim_heap
from workers.inference.parts import warmed_up


class Wanted(NamedTuple):
    """An artifact, and the precision it is to be loaded in; an empty one is the worker's choice."""

    artifact: str
    precision: str = ""


@dataclass
class LoadedModel:
    """`part` is how many images of a batch a core takes at once; None for all of them.

    `sketcher` is None where nothing is looked at for drift. `head` is what explains, once it was needed, and
    `neighbours` are opened when somebody first asks for them, under the `opening` lock.
    """

    predictor: Predictor
    part: int | None
    sketcher: Sketcher | None = None
    detector: Detector | None = None
    users: int = 0
    evicted: bool = False
    head: Head | None = None
    neighbours: Neighbours | None = None
    opening: threading.Lock = field(default_factory=threading.Lock)

    @property
    def memory_bytes(self) -> int:
        beside = (part.memory_bytes for part in (self.head, self.neighbours) if part)
        return self.predictor.memory_bytes + sum(beside)


@dataclass
class LoadedModels:
    """Loads what is wanted by `load`, which is called with an artifact's name and a precision, and warms it.

    It is called once for both however many threads wait. What was not used for longest goes first where all
    would be more than `memory_budget` bytes. `sketcher` makes what looks at a model's answers for drift.
    """

    load: Callable[[str, str], Predictor]
    memory_budget: int
    sketcher: Callable[[Predictor], Sketcher | None] | None = None
    _models: OrderedDict[Wanted, LoadedModel] = field(default_factory=OrderedDict, init=False)
    _loading: dict[Wanted, Future[LoadedModel]] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @contextmanager
    def hold(self, artifact: str, precision: str = "") -> Iterator[LoadedModel]:
        """The loaded artifact; it is not closed before the block ends, whatever else must be loaded."""
        held = self._acquire(Wanted(artifact, precision))
        try:
            yield held
        finally:
            self._release(held)

    def artifacts(self) -> tuple[str, ...]:
        """Those in memory, least recently used first."""
        with self._lock:
            return tuple(dict.fromkeys(wanted.artifact for wanted in self._models))

    def providers(self) -> tuple[str, ...]:
        """The execution providers that they really run on."""
        with self._lock:
            return tuple(sorted({held.predictor.provider for held in self._models.values()}))

    def add_head(self, held: LoadedModel, head: Head) -> None:
        """Keep what explains beside the model that is in use, and count it."""
        with self._lock:
            held.head = head
            kept = next((wanted for wanted, other in self._models.items() if other is held), None)
            if kept:
                self._evict(keep=kept)

    def close(self) -> None:
        with self._lock:
            for held in self._models.values():
                held.predictor.close()
            self._models.clear()

    def _acquire(self, wanted: Wanted) -> LoadedModel:
        while True:
            with self._lock:
                found = self._found(wanted)
                if found:
                    held = self._models[found]
                    held.users += 1
                    self._models.move_to_end(found)
                    return held
                pending = self._loading.get(wanted)
                if pending is None:
                    mine = self._loading[wanted] = Future()
                    break
            # Raises what the loading thread raised; otherwise look again, for it may be evicted already.
            pending.result()
        try:
            predictor = self.load(*wanted)
            part = warmed_up(predictor)
            detector = detector_of(predictor)
            sketcher = self.sketcher(predictor) if self.sketcher else None
        except BaseException as error:
            with self._lock:
                del self._loading[wanted]
            mine.set_exception(error)
            raise
        with self._lock:
            held = self._models[wanted] = LoadedModel(predictor, part, sketcher, detector, users=1)
            del self._loading[wanted]
            self._evict(keep=wanted)
        mine.set_result(held)
        # What loading, and the models that went, have freed would stay in pieces: more with each change.
        trim_heap()
        return held

    def _found(self, wanted: Wanted) -> Wanted | None:
        """Where the worker's choice is what was asked for, nothing is loaded twice."""
        if wanted in self._models:
            return wanted
        usual = Wanted(wanted.artifact)
        chosen = self._models.get(usual)
        return usual if chosen and chosen.predictor.precision == wanted.precision else None

    def _evict(self, keep: Wanted) -> None:
        """Drop least recently used models until the rest fits; one in use is closed by its last user."""
        used = sum(held.memory_bytes for held in self._models.values())
        for wanted in [other for other in self._models if other != keep]:
            if used <= self.memory_budget:
                return
            held = self._models.pop(wanted)
            used -= held.memory_bytes
            held.evicted = True
            if held.users == 0:
                held.predictor.close()

    def _release(self, held: LoadedModel) -> None:
        with self._lock:
            held.users -= 1
            if held.evicted and held.users == 0:
                held.predictor.close()


def detector_of(predictor: Predictor) -> Detector | None:
    """None where the version has none, or a graph that does not give what it reads. Raises ArtifactCorrupt."""
    found = read_detector(predictor.folder, predictor.manifest, predictor.precision)
    return found if found and found.output in predictor.outputs else None
