"""The recipes of an INT8 variant, in the order in which they are tried, and what tells which is next."""

import dataclasses
import functools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from models.variants.attempts import Attempts, Steps, Watcher
from models.variants.gate import LEAST_SPEEDUP, interleaved_seconds
from models.variants.network import Network
from models.variants.pixels import FOLDED
from models.variants.report import Recipe

# How many of the first convolutions are tried in float32: they read few channels, which integers gain little by.
PREFIXES = (1, 2, 3)
# How many of the nodes that cost the most are left in float32, one attempt after the other.
EXCEPTIONS = (1, 2, 3, 4, 6, 8)
# Images that tell which nodes these are. They calibrated: those that judge must not choose.
PROBES = 32
# The entries, three recipes for the whole network, and the exceptions.
STEPS = 1 + 3 + len(EXCEPTIONS)
# Ranges that are only to tell how fast a graph is.
ENTRY_IMAGES = 2


def search(
    attempts: Attempts,
    model: Path,
    folder: Path,
    calibration: NDArray[np.uint8],
    deadline: float,
    watcher: Watcher | None,
) -> None:
    """Try one recipe after the other until one passes, until none can, or until the time is up.

    `folder` is for files that nobody needs afterwards.
    """
    steps = Steps(watcher, STEPS)
    network = Network(model, calibration, steps.pulse)
    sketch = Network(model, calibration[:ENTRY_IMAGES], steps.pulse)
    entry = fastest_entry(sketch, network.probes(PROBES), folder)
    steps.reach(1)
    for number, recipe in enumerate(_recipes(network, entry, folder, deadline)):
        if number and time.monotonic() > deadline:
            return
        verdict = attempts.attempt(recipe, functools.partial(network.made, recipe))
        steps.reach(number + 2)
        if verdict is not None and verdict.passed:
            return
        too_slow = verdict is not None and verdict.speedup is not None and verdict.speedup < LEAST_SPEEDUP
        if too_slow and (number >= STEPS - len(EXCEPTIONS) - 1 or number == 0):
            # What follows has as much work to do, or more.
            return


def _recipes(network: Network, entry: Recipe, folder: Path, deadline: float) -> Iterator[Recipe]:
    rounded = dataclasses.replace(entry, rounded=True)
    equalised = dataclasses.replace(rounded, equalised=True)
    narrowed = dataclasses.replace(equalised, calibrator="mse")
    yield from (rounded, equalised, narrowed)
    base = min((rounded, equalised, narrowed), key=lambda recipe: _noise(network, recipe, folder))
    costly = _costly_nodes(network, base, folder, deadline)
    for count in EXCEPTIONS:
        chosen = tuple(name for names in costly[:count] for name in names)
        yield dataclasses.replace(base, float_nodes=(*base.float_nodes, *chosen))
        if count >= len(costly):
            return


def fastest_entry(network: Network, images: NDArray[np.uint8], folder: Path) -> Recipe:
    """How the pixels enter: straight into an INT8 convolution, or by a few convolutions that stay in float32.

    Which is faster depends on the network and on the machine, so that it is measured.
    """
    plain = Recipe("minmax", per_channel=True)
    files: list[Path] = []
    try:
        entries = [dataclasses.replace(plain, folded=(FOLDED,))] if network.folds else []
        prefixes = (network.first_nodes(count) for count in ((0, *PREFIXES) if not entries else PREFIXES))
        entries += [dataclasses.replace(plain, float_nodes=nodes) for nodes in prefixes]
        for number, recipe in enumerate(entries):
            files.append(folder / f"entry{number}.onnx")
            onnx.save(network.made(recipe), files[-1])
        seconds = interleaved_seconds(files, images)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 the first attempt will say what is wrong with the model
        return plain
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    return entries[int(np.argmin(seconds))]


def _costly_nodes(network: Network, base: Recipe, folder: Path, deadline: float) -> list[tuple[str, ...]]:
    """Convolutions with what follows them, those first that in float32 take away the most noise.

    Those that could not be measured before half of what is left of the time are not among them.
    """
    until = time.monotonic() + (deadline - time.monotonic()) / 2
    whole = _noise(network, base, folder)
    gains = []
    for names in network.weighing_nodes(base):
        if set(names) <= set(base.float_nodes):
            continue
        if time.monotonic() > until:
            break
        changed = dataclasses.replace(base, float_nodes=(*base.float_nodes, *names))
        gains.append((whole - _noise(network, changed, folder), names))
    return [names for gain, names in sorted(gains, key=lambda pair: -pair[0]) if gain > 0]


def _noise(network: Network, recipe: Recipe, folder: Path) -> float:
    """How far the logits are from float32's, of their own spread, on images that calibrated."""
    file = folder / "probe.onnx"
    try:
        onnx.save(network.made(recipe), file)
        return network.noise(file, PROBES)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 the attempt by this recipe says what is wrong with it
        return np.inf
    finally:
        file.unlink(missing_ok=True)
