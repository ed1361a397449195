"""A peer's own virtual environment, made once from its pinned requirements and kept in a cache folder."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin

from benchmarks.peers.peer import Peer

READY = ".ready"
TOLD_LINES = 12


class PeerUnavailable(Exception):
    """A peer cannot be had here; the text says why, and what to do where something can be done."""


def default_cache() -> Path:
    """`fovea-bench` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fovea-bench"


def install(peer: Peer, cache: Path) -> Path:
    """The Python of the peer's environment, which is made where there is none yet. Raises PeerUnavailable."""
    if missing := [name for name in peer.programs if shutil.which(name) is None]:
        raise PeerUnavailable(f"{peer.name} needs {', '.join(missing)} on the PATH")
    if peer.requirements is None:
        return Path(sys.executable)
    folder = cache / f"{peer.name}-{_key(peer.requirements)}"
    python = folder / "bin" / "python"
    if not (folder / READY).exists():
        _uv(peer, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        options = ("--quiet", "--require-hashes", "--compile-bytecode", "--python", str(python))
        _uv(peer, "pip", "sync", *options, str(peer.requirements))
        # Last, so that an environment that was left half made is made anew.
        (folder / READY).touch()
    return python


def version(peer: Peer, python: Path) -> str:
    """Package and version, as `litserve 0.2.19`."""
    program = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    done = subprocess.run(
        [python, "-c", program, peer.distribution], capture_output=True, text=True, check=True, timeout=60
    )
    return f"{peer.distribution} {done.stdout.strip()}"


def _key(requirements: Path) -> str:
    return hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()[:12]


def _uv(peer: Peer, *arguments: str) -> None:
    done = subprocess.run([find_uv_bin(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-TOLD_LINES:])
        raise PeerUnavailable(f"{peer.name} could not be installed: uv {arguments[0]} said\n{said}")
