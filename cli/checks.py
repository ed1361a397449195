"""What `fovea doctor` looks at. Each check is a function without arguments it could fail on: it reports."""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from cli.errors import RedisUnavailable
from cli.output import size
from cli.up.data_folder import holder_of
from cli.up.redis_server import find_redis
from system.cores import core_quota, memory_limit_bytes

_GIB = 1 << 30
_DISK_NEEDED = _GIB // 2
# Without these Fovea does not start on one machine.
_NEEDED = (
    "fovea", "fastapi", "uvicorn", "celery", "kombu", "redis", "sqlalchemy", "alembic", "fsspec", "numpy",
    "pillow", "typer", "rich", "httpx", "psutil",
)  # fmt: skip
_ALSO = ("psycopg", "s3fs", "onnx", "torchvision", "timm", "scikit-learn")
# Large ones, of which the first is in every process and the last in trainers.
_COMPILED = ("celery", "sqlalchemy", "fastapi", "torch")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class CheckResult:
    """`fix` says what to do, where there is something to do; `facts` are the numbers, for machines."""

    name: str
    level: Level
    detail: str
    fix: str = ""
    facts: dict[str, Any] | None = None


def run_checks(data: Path, weights: Path) -> list[CheckResult]:
    """Every check, the slow ones side by side, in a fixed order."""
    checks: list[Callable[[], CheckResult]] = [
        check_python,
        check_packages,
        check_bytecode,
        check_runtimes,
        check_onnxruntime,
        check_torch,
        check_redis,
        check_processor,
        check_memory,
        lambda: check_data_folder(data),
        lambda: check_disk(data),
        lambda: check_weights(weights),
    ]
    with ThreadPoolExecutor(len(checks)) as pool:
        return list(pool.map(lambda check: check(), checks))


def check_python() -> CheckResult:
    version = platform.python_version()
    detail = f"{version} on {platform.system()} {platform.machine()}, {sys.executable}"
    return CheckResult("Python", Level.OK, detail, facts={"version": version})


def check_packages() -> CheckResult:
    found = {name: _installed(name) for name in (*_NEEDED, *_ALSO)}
    missing = [name for name in _NEEDED if not found[name]]
    detail = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    if missing:
        fix = "install what is missing: pip install 'fovea[all]'"
        return CheckResult("packages", Level.PROBLEM, f"{', '.join(missing)} not installed; {detail}", fix, found)
    return CheckResult("packages", Level.OK, detail, facts=found)


def check_bytecode(
    names: tuple[str, ...] = _COMPILED, *, may_write: bool = not sys.dont_write_bytecode
) -> CheckResult:
    """Some installers leave compiling to the first start; where that may not write, every start does it again."""
    found = {name: spec.origin for name in names if (spec := importlib.util.find_spec(name)) and spec.origin}
    bare = {name: origin for name, origin in found.items() if not _is_compiled(origin)}
    if not bare:
        return CheckResult("bytecode", Level.OK, "packages are compiled")
    detail = f"not compiled: {', '.join(bare)}"
    folder = Path(next(iter(bare.values()))).parents[1]
    if may_write and os.access(folder, os.W_OK):
        return CheckResult("bytecode", Level.OK, f"{detail}; the first start does it, and takes longer")
    why = "Python may not write there" if may_write else "PYTHONDONTWRITEBYTECODE is set"
    fix = f"compile them once: {sys.executable} -m compileall -q {folder}"
    return CheckResult(
        "bytecode", Level.WARNING, f"{detail}, and {why}: every start takes three times as long", fix
    )


def check_runtimes(names: tuple[str, ...] = _RUNTIMES) -> CheckResult:
    """Several builds of ONNX Runtime share one folder; the last one installed has overwritten the others."""
    found = [f"{name} {version}" for name in names if (version := _installed(name))]
    if len(found) > 1:
        fix = "uninstall all of them, then install one: pip install onnxruntime-gpu, or onnxruntime"
        return CheckResult("onnxruntime build", Level.PROBLEM, f"{' and '.join(found)} overwrite each other", fix)
    if not found:
        fix = "pip install 'fovea[inference]'"
        return CheckResult("onnxruntime build", Level.PROBLEM, "no ONNX Runtime is installed", fix)
    return CheckResult("onnxruntime build", Level.OK, found[0])


def check_onnxruntime() -> CheckResult:
    name = "inference device"
    facts = _probe("onnxruntime")
    if "failure" in facts:
        return CheckResult(name, Level.PROBLEM, f"ONNX Runtime cannot be used: {facts['failure']}", facts=facts)
    detail = f"usable: {', '.join(facts['usable'])} (built with: {', '.join(facts['built'])})"
    if not facts["problem"]:
        return CheckResult(name, Level.OK, detail, facts=facts)
    level = Level.WARNING if shutil.which("nvidia-smi") else Level.OK
    return CheckResult(name, level, f"{detail}; no CUDA: {facts['problem']}", facts=facts)


def check_torch() -> CheckResult:
    name = "training device"
    if not _installed("torch"):
        fix = "to train or publish on this machine: pip install 'fovea[training]'"
        return CheckResult(name, Level.WARNING, "torch is not installed", fix)
    facts = _probe("torch")
    if "failure" in facts:
        return CheckResult(name, Level.PROBLEM, f"torch cannot be used: {facts['failure']}", facts=facts)
    built = f"built for CUDA {facts['cuda']}" if facts["cuda"] else "built without CUDA"
    devices = ", ".join(facts["gpus"]) or "CPU only"
    return CheckResult(name, Level.OK, f"torch {facts['version']}, {built}: {devices}", facts=facts)


def check_redis(search_path: str | None = None) -> CheckResult:
    try:
        binary = find_redis(search_path)
    except RedisUnavailable as exc:
        return CheckResult("Redis", Level.PROBLEM, str(exc))
    facts = {"path": str(binary.path), "version": binary.version, "source": binary.source}
    return CheckResult("Redis", Level.OK, f"{binary.version}, {binary.path} (from {binary.source})", facts=facts)


def check_processor() -> CheckResult:
    cores, host = core_quota(), os.cpu_count() or 1
    detail = f"{cores:g} of {host} cores usable" if cores < host else f"{host} cores"
    level = Level.WARNING if cores < 1 else Level.OK
    fix = "give the container at least one core" if cores < 1 else ""
    return CheckResult("processor", level, detail, fix, {"usable_cores": cores, "host_cores": host})


def check_memory() -> CheckResult:
    limit = memory_limit_bytes()
    facts = {"limit_bytes": limit}
    if limit < 2 * _GIB:
        fix = "at least 2 GB are needed to train, 1 GB to serve"
        return CheckResult("memory", Level.WARNING, f"{size(limit)} usable", fix, facts)
    return CheckResult("memory", Level.OK, f"{size(limit)} usable", facts=facts)


def check_data_folder(data: Path) -> CheckResult:
    folder = data.absolute()
    facts: dict[str, Any] = {"path": str(folder), "exists": folder.is_dir()}
    nearest = _nearest(folder)
    if not nearest.is_dir():
        return CheckResult(
            "data folder", Level.PROBLEM, f"{nearest} is a file", "choose another with --data", facts
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        fix = "choose another with --data, or change its owner"
        return CheckResult("data folder", Level.PROBLEM, f"{nearest} is not writable by this user", fix, facts)
    if holder := holder_of(folder):
        return CheckResult("data folder", Level.OK, f"{folder}, in use by a running Fovea ({holder})", facts=facts)
    state = "not in use" if folder.is_dir() else "not there yet; the first start makes it"
    return CheckResult("data folder", Level.OK, f"{folder}, {state}", facts=facts)


def check_disk(data: Path) -> CheckResult:
    free = shutil.disk_usage(_nearest(data.absolute())).free
    facts = {"free_bytes": free}
    if free < _DISK_NEEDED:
        return CheckResult("disk", Level.PROBLEM, f"{size(free)} free", "free some space, or choose --data", facts)
    if free < 5 * _GIB:
        fix = "weights and datasets can take several gigabytes"
        return CheckResult("disk", Level.WARNING, f"{size(free)} free", fix, facts)
    return CheckResult("disk", Level.OK, f"{size(free)} free", facts=facts)


def check_weights(weights: Path) -> CheckResult:
    folder = weights.absolute()
    if not folder.is_dir():
        return CheckResult("weights folder", Level.OK, f"{folder}, not there yet; downloads make it")
    files = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    facts = {"path": str(folder), "files": len(files), "bytes": sum(files)}
    return CheckResult(
        "weights folder", Level.OK, f"{folder}, {len(files)} files, {size(sum(files))}", facts=facts
    )


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _is_compiled(source: str) -> bool:
    return Path(importlib.util.cache_from_source(source)).is_file()


def _probe(subject: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli.probe", subject]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
        if answer.returncode == 0:
            return dict(json.loads(answer.stdout.splitlines()[-1]))
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as exc:
        return {"failure": str(exc)}
    said = answer.stderr.strip().splitlines()
    return {"failure": said[-1] if said else f"exit code {answer.returncode}"}


def _nearest(folder: Path) -> Path:
    """The folder, or the closest one above that exists."""
    return next(candidate for candidate in (folder, *folder.parents) if candidate.exists())
