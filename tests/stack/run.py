"""The stack test: `python tests/stack/run.py`, from a bare machine to the compose project driven and taken down.

FOVEA_STACK=required makes a machine that cannot run a Docker engine a failure; else it is told and passed over.
FOVEA_STACK_ENGINE=host takes the engine of DOCKER_HOST and the public base images instead of making both.
FOVEA_STACK_FROM is the commit to upgrade from, by default the last one before what the working tree holds.
FOVEA_STACK_FOLDER keeps tools, images and build cache for the next run; FOVEA_STACK_PORT is the gateway's,
and the one after it that of gRPC.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from drill import Drill
from engine import EngineUnavailable, make_bases, private_engine
from fleet import two_hosts
from log import StepFailed, say, step, warn
from project import Project

ROOT = Path(__file__).parent.parent.parent
IMAGES = ("gateway", "worker-inference", "worker-training")
FREE_GB = 30


def main() -> int:
    with ExitStack() as stack:
        kept = os.environ.get("FOVEA_STACK_FOLDER")
        work = Path(
            kept or stack.enter_context(tempfile.TemporaryDirectory(prefix="fovea-stack-", dir="/var/tmp"))
        )
        work.mkdir(parents=True, exist_ok=True)
        port = os.environ.get("FOVEA_STACK_PORT", "18080")
        environment = {
            "FOVEA_PORT": port,
            "FOVEA_GRPC_PORT": str(int(port) + 1),
            "COMPOSE_PROGRESS": "quiet",
        }
        try:
            if os.environ.get("FOVEA_STACK_ENGINE") != "host":
                require_room(work)
                with step("a Docker engine of its own"):
                    environment |= stack.enter_context(private_engine(work))
                with step("stand-ins for the public base images"):
                    environment |= make_bases(work / "bases", environment)
            test(work / "clone", environment)
        except EngineUnavailable as error:
            warn(f"the stack test is SKIPPED: no Docker engine can run here: {error}")
            return int(os.environ.get("FOVEA_STACK") == "required")
        except StepFailed as error:
            warn(str(error))
            return 1
        with step("everything taken down"):
            stack.close()
    return 0


def require_room(work: Path) -> None:
    """Raises EngineUnavailable."""
    free = shutil.disk_usage(work).free // 10**9
    if free < FREE_GB:
        raise EngineUnavailable(f"{free} GB are free in {work}; {FREE_GB} are needed (FOVEA_STACK_FOLDER)")


def test(folder: Path, environment: dict[str, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    project = Project(folder, environment, int(environment["FOVEA_PORT"]))
    drill = Drill(project, folder.parent / "digits")
    try:
        previous = previous_commit()
        if previous:
            with step(f"the images of {previous[:9]}, from which it will be upgraded"):
                unpack(["git", "-c", "tar.umask=0022", "archive", previous], folder)
                build(project)
        else:
            warn("no earlier commit with images here: the upgrade is not tested")
            place_working_tree(folder)
            with step("the images"):
                build(project)
        drill.start()
        if previous:
            clear(folder)
            place_working_tree(folder)
            with step("the images of the working tree"):
                build(project)
            drill.upgrade()
        drill.go_through()
        say(f"sizes: {sizes(project)}")
        drill.take_down()
        two_hosts(project, drill.digits)
    except StepFailed:
        print(project.compose("ps", "--all", check=False))
        print(project.compose("logs", "--tail", "30", "--no-color", check=False))
        raise
    finally:
        project.compose("down", "--volumes", "--timeout", "5", check=False)


def build(project: Project) -> None:
    project.compose("build", "--quiet")


def previous_commit() -> str | None:
    """The commit to upgrade from, if it has images."""
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT, check=False).returncode
    name = os.environ.get("FOVEA_STACK_FROM") or ("HEAD" if changed else "HEAD~1")
    found = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = found.stdout.strip()
    if not commit:
        return None
    has_images = subprocess.run(
        ["git", "cat-file", "-e", f"{commit}:docker-compose.yml"], cwd=ROOT, capture_output=True, check=False
    )
    return None if has_images.returncode else commit


def place_working_tree(folder: Path) -> None:
    """The files of the working tree, as they would be committed; all of an export that is no repository."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if not (ROOT / ".git").exists():
        unused = [f"--exclude=./{name}" for name in (".venv", "data", ".mypy_cache", ".ruff_cache")]
        unpack(["tar", *unused, "-cf", "-", "."], folder)
        return
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout
    there = b"\0".join(name for name in names.split(b"\0") if name and (ROOT / os.fsdecode(name)).exists())
    pack = subprocess.run(
        ["tar", "--null", "-T", "-", "-cf", "-"], cwd=ROOT, input=there, capture_output=True, check=True
    )
    subprocess.run(["tar", "-xf", "-"], cwd=folder, input=pack.stdout, check=True)


def clear(folder: Path) -> None:
    """As a checkout of another commit: what is not under version control stays."""
    for path in folder.iterdir():
        if path.name in (".env", "secrets"):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def unpack(command: list[str], folder: Path) -> None:
    packed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-xf", "-"], cwd=folder, input=packed, check=True)


def sizes(project: Project) -> str:
    """Of each image, and how much of it is its own and not the Python image's."""
    base = _size(project, project.environment.get("PYTHON_IMAGE", "python:3.12-slim-bookworm"))
    told = []
    for name in IMAGES:
        whole = _size(project, f"fovea/{name}:0.1.0")
        told.append(f"{name} {whole / 1e6:.0f} MB (its own {(whole - base) / 1e6:.0f} MB)")
    return ", ".join(told)


def _size(project: Project, image: str) -> int:
    return int(project.run("docker", "image", "inspect", "--format", "{{.Size}}", image).stdout)


if __name__ == "__main__":
    sys.exit(main())
