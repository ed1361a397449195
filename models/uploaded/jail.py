"""A user's ONNX file, prepared by a process that may die of it: under limits of memory and time, with no secrets.

The process is `models.uploaded.prepare`; docs/decisions/0034-a-model-file-from-outside.md has the reasons.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models import errors
from models.errors import ModelFileRefused, without_folder
from models.spec import Preprocessing
from models.uploaded.facts import Said
from system.ending import OUT_OF_MEMORY, ending, oom_kills
from system.parent import dying_with_parent

# What a process needs to start; the rest of the environment has passwords in it.
KEPT_VARIABLES = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "PYTHONWARNINGS", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
)  # fmt: skip
COMMAND = (sys.executable, "-m", "models.uploaded.prepare")
# What they map for each core of a large machine would count as memory.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
LOOK_S = 0.5
LONGEST_ANSWER = 128 * 2**20


@dataclass(frozen=True)
class JailLimits:
    """`memory_bytes` come on top of what the file's own size justifies; `cpu_s` are of all threads together."""

    memory_bytes: int = 2 * 2**30
    cpu_s: int = 600
    wall_s: float = 1200.0


@dataclass(frozen=True)
class PreparedGraph:
    """What is known of the artifact's graph that was made of a file; `facts` are for its card.

    `filters` are the facts and pictures of its first kernels: see `models.filters.record`.
    """

    labels: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float
    outputs: dict[str, list[int]]
    parity: dict[str, Any]
    facts: dict[str, Any]
    filters: tuple[dict[str, Any], dict[str, bytes]]


def prepare(
    path: Path,
    into: Path,
    said: Said,
    *,
    limits: JailLimits | None = None,
    check: Callable[[], None] = lambda: None,
) -> PreparedGraph:
    """Make the ONNX file `path` the artifact's graph `into`, and prove it.

    `check` is called now and then, and may raise to have it ended. Raises ModelFileRefused, UploadFactsMissing,
    ExportMismatch and ExportFailed, and ModelFileRefused for a file that ends the process that reads it.
    """
    limits = limits or JailLimits()
    asked = {
        "path": str(path),
        "into": str(into),
        "said": asdict(said),
        "memory_bytes": limits.memory_bytes,
        "cpu_s": limits.cpu_s,
    }
    before = oom_kills()
    with subprocess.Popen(
        dying_with_parent(COMMAND, signal.SIGKILL),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | ONE_THREAD,
    ) as process:
        try:
            answer = _answer_of(process, json.dumps(asked), limits.wall_s, check)
        finally:
            process.kill()
    if answer is None:
        how = ending(process.returncode, oom_kills_before=before)
        raise ModelFileRefused(_worded(how, limits))
    found = json.loads(answer)
    if "error" in found:
        kind, detail = getattr(errors, found["error"]), without_folder(found["detail"], path)
        if kind is errors.ExportMismatch:
            raise errors.ExportMismatch(detail, found["report"] or {})
        raise kind(detail)
    return PreparedGraph(
        tuple(found["labels"]),
        Preprocessing.from_dict(found["preprocessing"]),
        found["temperature"],
        found["outputs"],
        found["parity"],
        found["facts"],
        (found["filters"], {name: base64.b64decode(data) for name, data in found["pictures"].items()}),
    )


def _answer_of(
    process: "subprocess.Popen[str]", asked: str, wall_s: float, check: Callable[[], None]
) -> str | None:
    """None where it ended without one, or was ended because it came to no end."""
    said: list[str] = []

    def listen() -> None:
        if process.stdin and process.stdout:
            try:
                with process.stdin as given:
                    given.write(asked)
            except BrokenPipeError:
                return
            said.append(process.stdout.read(LONGEST_ANSWER))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    overdue = time.monotonic() + wall_s
    while process.poll() is None:
        check()
        if time.monotonic() > overdue:
            process.kill()
            process.wait()
            break
        try:
            process.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            continue
    listener.join()
    return said[0] if said and process.returncode == 0 else None


def _worded(how: str, limits: JailLimits) -> str:
    expected = "expected a graph that classifies an image in moments; look for what makes it so costly"
    if how in ("SIGXCPU", "SIGKILL"):
        return f"the file came to no end within {limits.cpu_s} s of a processor; {expected}"
    if how == OUT_OF_MEMORY or how == "SIGABRT":
        return f"the file needs more memory than there is for it ({how}); {expected}"
    return f"reading or running the file ends the process that does it ({how}); export it again, in another way"
