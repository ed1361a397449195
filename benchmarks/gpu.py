"""`python -m benchmarks.gpu`: what Fovea makes of a GPU, as ratios within one run on that GPU.

*serving*: the predictor's images a second at each batch, in float32, TF32 and fp16, beside raw ONNX Runtime with
the same graph, numbers and IO binding, with the pixels copied for each run, and with them on the GPU from the
start; and with batches of changing sizes. *finetune*: a training of all layers beside PyTorch's tutorial of
transfer learning, each in a process of its own. *devices*: the same training on all GPUs beside one. Without a GPU
it says so and ends with 2; `--device cpu` runs all of it in small, which shows that the script works and nothing
else.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.artifacts import ExportProcessFailed, make_artifacts, weights_folder
from benchmarks.gpu_serving import SIZES_IN_TURN, InTurn, Served, measure_in_turn, measure_serving
from benchmarks.gpu_training import Trained, TrainingFailed, TrainingPlan, measure_training, write_photographs
from benchmarks.machine import this_machine
from benchmarks.photographs import small_photographs
from benchmarks.report import PIPED_WIDTH
from models.devices import cuda_problem

PARTS = ("serving", "finetune", "devices")
BATCHES = (1, 8, 32, 128)
# Of raw ONNX Runtime's rate on the same GPU, at the batch below.
BAR, BAR_BATCH = 0.9, 128
NO_GPU = 2


@dataclass(frozen=True)
class Options:
    parts: tuple[str, ...]
    device: str
    model: str
    batches: tuple[int, ...]
    seconds: float
    rounds: int
    plan: TrainingPlan
    devices: int
    json: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    options = parse(arguments)
    if options.device == "cuda" and (problem := cuda_problem()):
        Console(stderr=True).print(
            f"Nothing was measured: {problem}. This needs a machine with an NVIDIA GPU; --device cpu runs it in "
            "small, to see that the script works.",
            style="red",
            highlight=False,
            markup=False,
        )
        return NO_GPU
    try:
        return measure(options, console)
    except (TrainingFailed, ExportProcessFailed) as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False)
        return 1


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="(all)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="(%(default)s)")
    parser.add_argument("--model", default="resnet50", help="of torchvision (%(default)s)")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, metavar="N", help="(1 8 32 128)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--images", type=int, default=4096, help="that a training has (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=128, help="of a training, on all devices (%(default)s)")
    parser.add_argument("--devices", type=int, default=0, help="of *devices*; 0: all GPUs (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE as well")
    given = parser.parse_args(arguments)
    for name in ("rounds", "seconds", "images", "epochs", "batch_size", "devices"):
        least = 0 if name == "devices" else 8 if name == "images" else 1 if name != "seconds" else 0.01
        if getattr(given, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}")
    if min(given.batches) < 1:
        parser.error("--batches must be at least 1")
    return Options(
        tuple(part for part in PARTS if part in given.parts),
        given.device,
        given.model,
        tuple(given.batches),
        given.seconds,
        given.rounds,
        TrainingPlan(given.model, given.device, given.images, given.epochs, given.batch_size),
        given.devices,
        given.json,
    )


def measure(options: Options, console: Console) -> int:
    """Measure, show and judge: 0 where the bar holds, or nothing that has one was measured."""
    served: list[Served] = []
    in_turn: list[InTurn] = []
    trained: list[Trained] = []
    cards = [] if options.device == "cpu" else cards_here()
    torch_version = metadata.version("torch")
    machine = this_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    console.print(f"{', '.join(cards) or 'no GPU'}; torch {torch_version}, {versions}", highlight=False)
    with tempfile.TemporaryDirectory(prefix="fovea-gpu-", dir="/tmp") as name:
        folder = Path(name)
        data = weights_folder()
        photographs = small_photographs(folder / "small", data.parent / "imagenet" / "samples" if data else None)
        if "serving" in options.parts:
            artifacts = make_artifacts(options.model, folder / "model", photographs.paths[0].parent, "fp16")
            served = measure_serving(
                artifacts.fovea, options.device, options.batches, options.seconds, options.rounds
            )
            in_turn = measure_in_turn(artifacts.fovea, options.device, options.seconds)
            show_serving(served, in_turn, console)
        who = training_kinds(options)
        if who:
            images = write_photographs(folder / "training", photographs.paths, options.plan.images)
            for number in range(options.rounds):
                for kind, devices in who:
                    found = measure_training(kind, devices, options.plan, images, folder / "work")
                    trained.append(found)
                    console.print(
                        f"round {number + 1}: {found.name} {found.seconds:.1f} s, "
                        f"{found.images_per_second:.0f} images/s",
                        highlight=False,
                    )
            show_training(trained, console)
        elif "devices" in options.parts:
            console.print("devices: there is one GPU, so more than one were not seen")
    if options.json:
        document = {
            "machine": machine.to_dict(),
            "cards": cards,
            "torch": torch_version,
            "device": options.device,
            "serving": [asdict(line) for line in served],
            "in_turn": [asdict(line) for line in in_turn],
            "training": [asdict(line) for line in trained],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.device == "cpu":
        console.print("On a CPU these figures say nothing about a GPU.")
        return 0
    return 0 if holds(served) else 1


def training_kinds(options: Options) -> list[tuple[str, int]]:
    """Who trains, on how many devices, in the order of a round."""
    there = options.devices or gpu_count(options.device)
    found = [("tutorial", 1), ("fovea", 1)] if "finetune" in options.parts else []
    if "devices" in options.parts and there > 1:
        found += [("fovea", 1)] if not found else []
        found.append(("fovea", there))
    return found


def cards_here() -> list[str]:
    """Each GPU's name and its driver, as the driver's own tool has them; empty where that is missing."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    return [line.strip() for line in told.splitlines() if line.strip()]


def gpu_count(device: str) -> int:
    if device == "cpu":
        return 1
    # Asked here alone: what serves does without torch.
    import torch

    return torch.cuda.device_count()


def holds(served: Sequence[Served]) -> bool:
    """Whether the predictor is as near to raw ONNX Runtime as it has to be, in the median of the rounds."""
    of_the_bar = [line for line in served if line.batch == BAR_BATCH]
    return all(
        statistics.median(line.of_copied for line in of_the_bar if line.numbers == numbers) >= BAR
        for numbers in {line.numbers for line in of_the_bar}
    )


def show_serving(served: Sequence[Served], in_turn: Sequence[InTurn], console: Console) -> None:
    table = Table(
        "numbers",
        "batch",
        "predictor",
        "of raw, copied",
        "of raw, on the device",
        "from raw",
        "from the CPU",
        box=None,
    )
    for numbers, batch in dict.fromkeys((line.numbers, line.batch) for line in served):
        lines = [line for line in served if (line.numbers, line.batch) == (numbers, batch)]
        copied, resident = [line.of_copied for line in lines], [line.of_resident for line in lines]
        table.add_row(
            numbers,
            str(batch),
            f"{statistics.median(line.predictor for line in lines):.0f} images/s",
            f"{statistics.median(copied):.2f} ({min(copied):.2f} to {max(copied):.2f})",
            f"{statistics.median(resident):.2f} ({min(resident):.2f} to {max(resident):.2f})",
            f"{max(line.difference for line in lines):.1e}",
            f"{max(line.from_cpu for line in lines):.1e}",
        )
    console.print(f"{served[0].provider}, medians; the largest differences of logits")
    console.print(table)
    sizes = ", ".join(map(str, SIZES_IN_TURN))
    for line in in_turn:
        found = f"{line.predictor:.0f} images/s, {line.predictor / line.raw:.1f} times raw"
        console.print(f"{line.numbers}, batches of {sizes} in turn: {found}", highlight=False)


def show_training(trained: Sequence[Trained], console: Console) -> None:
    """Ratios are those of the medians: more than 1 is faster than the first line."""
    names = list(dict.fromkeys(line.name for line in trained))
    table = Table("medians", "seconds", "times as fast", "images/s", "times as many", "precision", box=None)
    first: tuple[float, float] | None = None
    for name in names:
        lines = [line for line in trained if line.name == name]
        seconds = statistics.median(line.seconds for line in lines)
        rate = statistics.median(line.images_per_second for line in lines)
        first = first or (seconds, rate)
        table.add_row(
            name,
            f"{seconds:.1f}",
            f"{first[0] / seconds:.2f}",
            f"{rate:.0f}",
            f"{rate / first[1]:.2f}",
            lines[0].precision,
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
