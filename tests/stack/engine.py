"""A Docker engine for the test: a private one that is made and taken down, or the one that DOCKER_HOST names."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
NOT_HERE = 3

Environment = dict[str, str]


class EngineUnavailable(Exception):
    """This machine cannot run a private engine; the text says why."""


@contextmanager
def private_engine(folder: Path) -> Iterator[Environment]:
    """The environment in which `docker` speaks to it. Raises EngineUnavailable."""
    tools, engine = folder / "tools", folder / "engine"
    _run([HERE / "tools.sh", tools], {})
    environment = {
        "PATH": f"{tools / 'bin'}:{os.environ['PATH']}",
        "DOCKER_CONFIG": str(tools / "config"),
        "DOCKER_HOST": f"unix://{engine / 'docker.sock'}",
    }
    _run([HERE / "engine.sh", "up", engine], environment)
    try:
        yield environment
    finally:
        _run([HERE / "engine.sh", "down", engine], environment)


def make_bases(folder: Path, environment: Environment) -> Environment:
    """Stand-ins for the public base images; returns the variables that name them."""
    python = _run([HERE / "bases.sh", folder], environment).strip()
    return {
        "PYTHON_IMAGE": python,
        "POSTGRES_IMAGE": "postgres:15-bookworm",
        "REDIS_IMAGE": "redis:7-bookworm",
        "NGINX_IMAGE": "nginx:1.22-bookworm",
    }


def _run(command: list[str | Path], environment: Environment) -> str:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode == NOT_HERE:
        raise EngineUnavailable(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
