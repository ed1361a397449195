"""`fovea demo`: the main job from start to end through the public API, in a Fovea of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AsJson, Key, Url

if TYPE_CHECKING:
    from cli.client import ApiClient, Json

_START_S = 180.0
_STOP_S = 15.0
_AT_ONCE = 8


def demo(
    per_digit: Annotated[
        int, typer.Option("--per-digit", min=1, max=30, help="Images of each digit to try.")
    ] = 10,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Start, learn handwritten digits, classify ones never seen, print the result, stop.

    With --url it uses the Fovea there; otherwise it starts one of its own and leaves nothing behind.
    """
    from cli.client import ApiClient
    from cli.output import print_json

    with tempfile.TemporaryDirectory(prefix="fovea-demo-") as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        is_alive: Callable[[], None] = lambda: None  # noqa: E731
        if not url:
            url, is_alive = stack.enter_context(started_fovea(folder))
        client = stack.enter_context(ApiClient(url, key))
        report = run_demo(client, folder, per_digit, is_alive)
    if as_json:
        print_json(report)
    else:
        _show(report)


@contextlib.contextmanager
def started_fovea(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A Fovea of its own in `folder`, ended with the context: its URL, and a check that it still runs.

    The check raises StartFailed with its last lines.
    """
    from cli.address import claim_port, local_url
    from cli.child import describe_exit, dying_with_parent
    from cli.errors import StartFailed

    port = claim_port("127.0.0.1", 0)
    log, temporary = folder / "up.log", folder / "tmp"
    temporary.mkdir()
    options = ["--host", "127.0.0.1", "--port", str(port), "--data", str(folder / "data"), "--no-starter"]
    with log.open("wb") as lines:
        process = subprocess.Popen(
            dying_with_parent([sys.executable, "-m", "cli.main", "up", *options]),
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
            # torch and ONNX Runtime leave files of their own among the temporary ones.
            env={**os.environ, "PYTHONSAFEPATH": "1", "TMPDIR": str(temporary)},
            process_group=0,  # Ctrl-C reaches only this process, which then ends the other in order
        )

    def require_alive() -> None:
        if (code := process.poll()) is not None:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise StartFailed(f"the demo's Fovea ended ({describe_exit(code)}); its last lines:\n{last}")

    try:
        yield local_url("127.0.0.1", port), require_alive
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_demo(client: "ApiClient", folder: Path, per_digit: int, require_alive: Callable[[], None]) -> "Json":
    """Wait, learn, classify; returns the numbers. Words about it go to stderr, images into `folder`."""
    from cli.starter import has_starter

    seconds: dict[str, float] = {}
    with _timed(seconds, "start", f"waiting for Fovea at {client.url}"):
        _await_ready(client, require_alive)
    if not has_starter(client):
        with _timed(seconds, "learn", "learning handwritten digits: LeNet-5 from nothing"):
            _learn(client)
    with _timed(seconds, "choose", "taking digits that it has never seen"):
        images = _held_out(folder, per_digit)
    with _timed(seconds, "classify", f"classifying {len(images)} of them"):
        report = _classify(client, images)
    return {**report, "seconds": {name: round(value, 2) for name, value in seconds.items()}}


def _await_ready(client: "ApiClient", require_alive: Callable[[], None]) -> None:
    from cli.errors import StartFailed
    from cli.readiness import ask, awaited

    deadline = time.monotonic() + _START_S
    while waiting := awaited(ask(client)):
        require_alive()
        if time.monotonic() > deadline:
            raise StartFailed(f"Fovea at {client.url} is not ready after {_START_S:.0f} s: {', '.join(waiting)}")
        time.sleep(0.2)


def _learn(client: "ApiClient") -> None:
    from rich.console import Console

    from cli.progress import JobProgress
    from cli.starter import follow_starter

    with JobProgress("  fine-tune", Console(stderr=True), _say) as progress:
        progress.follow(follow_starter(client))


def _held_out(folder: Path, per_digit: int) -> list[Path]:
    from cli.errors import CliError

    samples, dataset = folder / "samples", folder / "data" / "cache" / "builtin" / "digits"
    command = [sys.executable, "-m", "cli.samples", str(samples), str(per_digit), str(dataset)]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    written = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if written.returncode:
        raise CliError(f"no digits to classify: {written.stderr.strip().splitlines()[-1]}")
    return sorted(samples.glob("digit-*.png"))


def _classify(client: "ApiClient", images: list[Path]) -> "Json":
    from cli.classify import classify_file
    from cli.errors import CliError
    from cli.starter import NAME

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = list(pool.map(lambda image: classify_file(client, image, NAME, 1), images))
    for outcome in outcomes:
        if outcome.code:
            raise CliError(f"{outcome.file} could not be classified: {outcome.detail} ({outcome.code})")
    truth = [image.name.split("-")[1] for image in images]
    right = Counter(label for label, o in zip(truth, outcomes, strict=True) if o.classes[0]["label"] == label)
    return {
        "model": NAME,
        "version": outcomes[0].version,
        "images": len(images),
        "correct": right.total(),
        "accuracy": right.total() / len(images),
        "per_digit": {label: {"images": n, "correct": right[label]} for label, n in Counter(truth).items()},
    }


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str, words: str) -> Iterator[None]:
    _say(words)
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started
    _say(f"  done in {seconds[name]:.1f} s")


def _show(report: "Json") -> None:
    from cli.output import bar, percent, print_table

    rows = [
        (label, f"{c['correct']} of {c['images']}", bar(c["correct"] / c["images"]))
        for label, c in sorted(report["per_digit"].items())
    ]
    print_table(("digit", "right", ""), rows)
    each = 1000 * report["seconds"]["classify"] / report["images"]
    score = f"{report['correct']} of {report['images']} held-out digits right ({percent(report['accuracy'])})"
    print(f"\n{score}, {each:.1f} ms each, by {report['model']} version {report['version']}")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
