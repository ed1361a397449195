"""A compose project in a folder of its own, and what one can do to it."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from log import StepFailed

from fovea_client import ApiError, Fovea, Unreachable

Json = dict[str, Any]


@dataclass(frozen=True)
class Project:
    folder: Path
    environment: dict[str, str]
    port: int
    files: tuple[str, ...] = field(default=("docker-compose.yml",))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, timeout_s: float = 40.0) -> Fovea:
        key = (self.folder / "secrets/admin_key").read_text().strip()
        return Fovea(self.url, key, timeout_s=timeout_s, patience_s=0)

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            raise StepFailed(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")
        return done

    def compose(self, *arguments: str, check: bool = True) -> str:
        files = [argument for file in self.files for argument in ("-f", file)]
        return self.run("docker", "compose", *files, *arguments, check=check).stdout

    def up(self, *arguments: str) -> None:
        self.compose("up", "-d", "--wait", "--wait-timeout", "180", *arguments)

    def exec(self, service: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("docker", "compose", "exec", "-T", service, *command, check=check)

    def python(self, service: str, program: str) -> str:
        return self.exec(service, "python", "-c", program).stdout.strip()

    def kill_inside(self, service: str) -> None:
        """As a crash: every process of the container at once. `docker kill` counts as a wish and is obeyed."""
        self.exec(service, "sh", "-c", "kill -9 -1", check=False)

    def services(self) -> list[str]:
        return self.compose("config", "--services").split()

    def containers(self, service: str) -> list[Json]:
        """What the engine knows of the service's containers."""
        ids = self.compose("ps", "--all", "--quiet", service).split()
        found: list[Json] = json.loads(self.run("docker", "inspect", *ids).stdout) if ids else []
        return found

    def workers(self, role: str) -> int:
        with self.client() as client:
            return sum(worker.worker.startswith(f"{role}@") for worker in client.readiness().workers)

    def ready(self) -> bool:
        with self.client(5.0) as client:
            try:
                return client.readiness().is_ready
            except (Unreachable, ApiError):
                return False


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 60.0) -> float:
    """Seconds it took. Raises StepFailed."""
    begun = time.monotonic()
    while time.monotonic() - begun < timeout_s:
        if holds():
            return time.monotonic() - begun
        time.sleep(0.3)
    raise StepFailed(f"waited {timeout_s:.0f} s for {what}")
