"""Reads hostile files with Fovea's real readers, each in a process of its own with a deadline and little memory.

`python -m support.jail` imports the readers once and forks for every file; questions and answers are lines of
JSON. A reader may take a file, or refuse it with the errors that it documents; whatever else is a fault.
"""

import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.attacks.attack import Attack

ROOT = Path(__file__).parents[2]
# Of its processor, which other work of the machine does not count in; and by the clock, for what only waits.
MOST_CPU_S = 20
DEADLINE_S = 150.0
# Beyond what the process has when it begins.
MOST_MB = 900
# Room for what libraries only reserve.
RESERVED_MB = 4096


@dataclass(frozen=True)
class Outcome:
    """`end` is `taken`, `refused`, or what a fault is called; `detail` is the error's class and text.

    `seconds` are the processor's.
    """

    end: str
    detail: str
    seconds: float
    grown_mb: int


class Jail:
    """The process that forks; `read` may be called again and again."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self, attack: Attack) -> Outcome:
        """Raises RuntimeError when the jail itself has ended."""
        assert self._process.stdin
        assert self._process.stdout
        with tempfile.TemporaryDirectory(prefix="fovea-jail-") as folder:
            given, box, scratch = (Path(folder, name) for name in ("given", "box", "tmp"))
            for path in (given, box, scratch):
                path.mkdir()
            path = attack.make(given)
            before = _tree(Path(folder))
            asked = {"family": attack.family, "path": str(path), "box": str(box), "tmp": str(scratch)}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            if not answer:
                raise RuntimeError("the jail has ended")
            outcome = Outcome(**json.loads(answer))
            if outcome.end == "refused" and (left := _tree(Path(folder)) - before):
                return Outcome("left files", f"{sorted(left)[:5]}", outcome.seconds, outcome.grown_mb)
            if outcome.end == "refused" and _names_this_host(outcome.detail, folder):
                return Outcome("named a path", outcome.detail, outcome.seconds, outcome.grown_mb)
            return outcome


def _names_this_host(text: str, folder: str) -> bool:
    named = re.findall(r"(?<![\w.:/])/[\w.-]+/[^\s'\"]*", text)
    return any(path.startswith((folder, str(ROOT), sys.prefix, "/usr/", "/tmp/")) for path in named)


def _tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@contextmanager
def jail() -> Iterator[Jail]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "support.jail"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Jail(process)
    finally:
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


# Within the jail


def serve() -> None:
    from support.readers import READERS

    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(_run(READERS[asked["family"]], asked)), flush=True)


Reader = tuple[Callable[[Path, Path], Any], tuple[type[BaseException], ...]]


def _run(reader: Reader, asked: dict[str, str]) -> dict[str, Any]:
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        os.close(receiving)
        try:
            said = _read(reader, asked)
        except BaseException as error:  # noqa: BLE001 - it is told
            said = f"jail\n{error!r}"
        os.write(sending, said.encode("utf-8", "backslashreplace")[:60_000])
        os._exit(0)
    os.close(sending)
    ready, _, _ = select.select([receiving], [], [], DEADLINE_S)
    if not ready:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(receiving, "rb") as pipe:
        said = pipe.read().decode()
    _, status, usage = os.wait4(child, 0)
    seconds = usage.ru_utime + usage.ru_stime
    grown = (usage.ru_maxrss - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) // 1024
    end, _, detail = said.partition("\n")
    if not ready:
        end = "late"
    elif not said:
        end, detail = (
            "killed",
            signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status}",
        )
    elif grown > MOST_MB:
        end = f"took {grown} MB"
    return {"end": end, "detail": detail, "seconds": seconds, "grown_mb": max(0, grown)}


def _read(reader: Reader, asked: dict[str, str]) -> str:
    read, documented = reader
    os.setsid()
    os.chdir(asked["box"])
    os.environ["TMPDIR"] = tempfile.tempdir = asked["tmp"]
    reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = reserved + (MOST_MB + RESERVED_MB) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S + 1))
    folder = str(Path(asked["box"]).parent)
    broken: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            changed: Any = arguments[0]
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod"):
            changed = arguments[1 if event in ("os.rename", "os.link", "os.symlink") else 0]
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"):
            broken.append(f"{event} {arguments!r:.200}")
            return
        else:
            return
        if isinstance(changed, str | bytes | os.PathLike):
            real = os.path.realpath(os.fsdecode(changed))
            if not real.startswith((folder, "/dev/", "/proc/")):
                broken.append(f"{event} {real}")

    sys.addaudithook(watch)
    try:
        read(Path(asked["path"]), Path(asked["box"]))
        said = "taken\n"
    except documented as error:
        said = f"refused\n{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001 - it is told
        said = f"wrong error\n{type(error).__module__}.{type(error).__name__}: {error}"
    return f"left its folder\n{broken}" if broken else said


if __name__ == "__main__":
    serve()
