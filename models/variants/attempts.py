"""The attempts to make one variant, each judged as it is made: what passed, what came nearest, and why not."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import onnx

from models.artifact import Precision
from models.errors import ModelError
from models.graph import check_graph
from models.variants.gate import Gate, Verdict
from models.variants.report import Attempt, Recipe, VariantReport

Watcher = Callable[[int, int], None]

logger = logging.getLogger(__name__)


class Stopped(BaseException):
    """What a watcher raised, on its way past whatever takes the errors of ONNX Runtime's tools for a refusal."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class Steps:
    """How far the work is, for its watcher: told at each step, and again and again in between."""

    def __init__(self, watcher: Watcher | None, total: int) -> None:
        self._watcher = watcher
        self._total = total
        self._done = 0

    def reach(self, done: int) -> None:
        self._done = min(done, self._total)
        self.pulse()

    def pulse(self) -> None:
        if self._watcher is None:
            return
        try:
            self._watcher(self._done, self._total)
        except Exception as exc:
            raise Stopped(exc) from exc


class Attempts:
    """What one of them raises is what it failed with; the next one may do better."""

    def __init__(self, gate: Gate, folder: Path, *, measure_speed: bool) -> None:
        self.gate = gate
        self.tried: list[Attempt] = []
        self.passed: Path | None = None
        self._folder = folder
        self._measure_speed = measure_speed
        self._best: tuple[float, Recipe, Verdict] | None = None

    def attempt(self, recipe: Recipe, make: Callable[[], onnx.ModelProto]) -> Verdict | None:
        """Judge what `make` makes by the recipe; None where it made nothing that runs."""
        path = self._folder / f"{len(self.tried)}.onnx"
        try:
            onnx.save(make(), path)
            check_graph(path)
            verdict = self.gate.judge(path, measure_speed=self._measure_speed)
        except MemoryError:
            raise
        except Exception as exc:  # noqa: BLE001 the tools raise whatever their authors did not think of
            path.unlink(missing_ok=True)
            self.tried.append(Attempt(recipe, False, _reason(exc)))
            logger.info("variant refused", extra={"recipe": str(recipe), "reason": _reason(exc)})
            return None
        self._note(recipe, verdict, path)
        return verdict

    def report(self, precision: Precision, images: int, calibration_images: int) -> VariantReport:
        if self._best is None:
            reason = self.tried[-1].why if self.tried else "no recipe could be tried within the budget"
            return VariantReport(precision, False, reason, images, calibration_images, tried=tuple(self.tried))
        _, recipe, verdict = self._best
        return VariantReport(
            precision=precision,
            calibration_images=calibration_images,
            recipe=recipe,
            speedup=verdict.speedup,
            tried=tuple(self.tried),
            **vars(verdict),
        )

    def _note(self, recipe: Recipe, verdict: Verdict, path: Path) -> None:
        self.tried.append(
            Attempt(
                recipe, verdict.passed, verdict.reason, verdict.accuracy, verdict.agreement,
                verdict.calibration_error, verdict.speedup,
            )
        )  # fmt: skip
        merit = math.inf if verdict.passed else verdict.agreement
        if self._best is None or merit > self._best[0]:
            self._best = (merit, recipe, verdict)
        if verdict.passed:
            self.passed = path
        else:
            path.unlink()


def with_facts_of(model: onnx.ModelProto, made: onnx.ModelProto) -> onnx.ModelProto:
    """The made graph with the metadata of the one that it was made from: labels, preprocessing and the rest."""
    del made.metadata_props[:]
    made.metadata_props.extend(model.metadata_props)
    del made.graph.value_info[:]
    made.graph.name = model.graph.name
    return made


def _reason(error: Exception) -> str:
    if isinstance(error, ModelError):
        return str(error)
    first = str(error).strip().partition("\n")[0]
    return f"ONNX Runtime's tools cannot make it: {type(error).__name__}: {first[:200]}"
