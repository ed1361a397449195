"""`fovea demo`: the main job from start to end through the public API, in a Fovea of its own."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from fovea_client import Fovea

Json = dict[str, Any]

_MODEL = "digits-demo"
_AT_ONCE = 8
# Digits as they are: mirrored they would be others. Few epochs: two fine-tunes are to take seconds.
_RECIPE = {
    "epochs": 12,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "patience": None,
    "augmentation": {"crop": "centre", "mirror": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
}


def demo(
    per_digit: Annotated[
        int, typer.Option("--per-digit", min=1, max=30, help="Images of each digit to try.")
    ] = 10,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Start, learn the digits 0 to 4, learn on to 0 to 9, classify ones never seen, print the result, stop.

    With --url it uses the Fovea there, which keeps the model; otherwise it starts one and leaves nothing.
    """
    from cli.connection import connect
    from cli.output import print_json
    from cli.up.temporary_fovea import temporary_fovea

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fovea-demo-") as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        is_alive: Callable[[], None] = lambda: None  # noqa: E731
        if not url:
            url, is_alive = stack.enter_context(temporary_fovea(folder))
        client = stack.enter_context(connect(url, key))
        report = run_demo(client, folder, per_digit, is_alive)
    report["seconds"]["whole"] = round(time.monotonic() - started, 2)
    if as_json:
        print_json(report)
    else:
        _show(report)


def run_demo(client: "Fovea", folder: Path, per_digit: int, require_alive: Callable[[], None]) -> Json:
    """Run the demo against `client`; returns its numbers. Words about it go to stderr, images into `folder`."""
    from cli.up.readiness import await_ready

    seconds: dict[str, float] = {}
    with _timed(seconds, "start", f"waiting for Fovea at {client.url}"):
        await_ready(client, require_alive)
    with _timed(seconds, "draw", "writing scikit-learn's handwritten digits into folders, some kept back unseen"):
        digits = _write_digits(folder, per_digit)
    unseen = sorted((digits / "unseen").glob("digit-*.png"))
    known = [image for image in unseen if _label(image) in "01234"]
    with _timed(seconds, "learn", "learning 0 to 4: LeNet-5 from nothing"):
        first = _learn(client, digits / "0-4", "none")
    with _timed(seconds, "classify", f"classifying {len(known)} unseen digits from 0 to 4"):
        first["unseen"] = _classify(client, f"{_MODEL}:{first['version']}", known)
    with _timed(seconds, "learn_on", f"learning on to 0 to 9 from {_MODEL} version {first['version']}"):
        second = _learn(client, digits / "0-9", f"{_MODEL}:{first['version']}")
    with _timed(seconds, "classify_all", f"classifying {len(unseen)} unseen digits from 0 to 9"):
        second["unseen"] = _classify(client, f"{_MODEL}@production", unseen)
    return {
        "model": _MODEL,
        "finetunes": [first, second],
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def _write_digits(folder: Path, per_digit: int) -> Path:
    from cli.errors import CliError

    target = folder / "digits"
    command = [sys.executable, "-m", "cli.demo_digits", str(target), str(per_digit), str(folder / "dataset")]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    written = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if written.returncode:
        raise CliError(f"no digits to learn from: {written.stderr.strip().splitlines()[-1]}")
    return target


def _learn(client: "Fovea", images: Path, weights: str) -> Json:
    """Send a folder, learn it, serve it; the fine-tune's numbers."""
    from cli.dataset_upload import ready_dataset
    from cli.job_progress import watch_job

    dataset = ready_dataset(client, images)
    job = client.finetune(
        model=_MODEL,
        dataset=dataset,
        architecture="lenet5",
        weights=weights,
        strategy="full",
        recipe=_RECIPE,
        promote="always",
        variants="none",  # it ends before they would be there
    )
    result = watch_job(job, f"learning {images.name}").result or {}
    version = client.models.version(_MODEL, result["version"])
    return {
        "dataset": dataset,
        "job": job.id,
        "version": result["version"],
        "labels": list(version.labels),
        "labels_kept": version.manifest.get("weights", {}).get("labels_kept", []),
        "accuracy": result["metrics"]["accuracy"],
        "measured_on": f"{result['metrics']['images']} {result['metrics']['measured_on']} images",
    }


def _classify(client: "Fovea", model: str, images: list[Path]) -> Json:
    from cli.classify import classify_file
    from cli.errors import CliError

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = list(pool.map(lambda image: classify_file(client, image, model, 1), images))
    for outcome in outcomes:
        if outcome.code:
            raise CliError(f"{outcome.file} could not be classified: {outcome.detail} ({outcome.code})")
    truth = [_label(image) for image in images]
    right = Counter(label for label, o in zip(truth, outcomes, strict=True) if o.classes[0]["label"] == label)
    return {
        "images": len(images),
        "correct": right.total(),
        "accuracy": right.total() / len(images),
        "per_digit": {label: {"images": n, "correct": right[label]} for label, n in Counter(truth).items()},
    }


def _label(image: Path) -> str:
    return image.name.split("-")[1]


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str, words: str) -> Iterator[None]:
    _say(words)
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started
    _say(f"  done in {seconds[name]:.1f} s")


def _show(report: Json) -> None:
    from cli.output import bar, percent, print_table

    first, second = (finetune["unseen"] for finetune in report["finetunes"])
    rows = [
        (label, _right(first["per_digit"].get(label)), _right(c), bar(c["correct"] / c["images"]))
        for label, c in sorted(second["per_digit"].items())
    ]
    print_table(("digit", "after 0 to 4", "after 0 to 9", ""), rows)
    print()
    for finetune, step in zip(report["finetunes"], ("learn", "learn_on"), strict=True):
        unseen, labels = finetune["unseen"], finetune["labels"]
        print(
            f"{report['model']} version {finetune['version']} knows {labels[0]} to {labels[-1]}: "
            f"{unseen['correct']} of {unseen['images']} unseen digits right ({percent(unseen['accuracy'])}), "
            f"learned in {report['seconds'][step]:.1f} s"
        )
    each = 1000 * report["seconds"]["classify_all"] / second["images"]
    print(f"{each:.1f} ms for each classification; {report['seconds']['whole']:.0f} s in all")


def _right(counted: Json | None) -> str:
    return f"{counted['correct']} of {counted['images']}" if counted else "not known"


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
