"""Each image has what its processes import, although the machine that tests has more."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

# Imports every module of the rooms as if only the named packages were installed.
IMPORT_ALL = """
import importlib, pkgutil, sys
from importlib.machinery import PathFinder

rooms, absent = sys.argv[1].split(), set(sys.stdin.read().split())

class Installed:
    find_distributions = PathFinder.find_distributions

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in absent else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
for room in rooms:
    package = importlib.import_module(room)
    for found in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{room}."):
        importlib.import_module(found.name)
"""


def named_in(requirements: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", requirements.read_text(), re.MULTILINE))


def installed_beside(named: set[str]) -> set[str]:
    """The top-level modules of this machine that none of the named packages brings, and that are not Fovea's."""
    found = importlib.metadata.packages_distributions()
    names = {module: {re.sub(r"[-_.]+", "-", name).lower() for name in of} for module, of in found.items()}
    return {module for module, of in names.items() if not of & (named | {"fovea", "fovea-client"})}


@pytest.mark.parametrize(
    ("requirements", "rooms"),
    [
        ("gateway", "service storage system cli.main cli.migrate cli.connection fovea_client"),
        ("inference-cuda", "workers.inference workers.jobs workers.health models.dataset storage system"),
        pytest.param(
            "training",
            "workers.training workers.jobs workers.health models storage system",
            marks=pytest.mark.slow,
        ),
        ("debug", "workers.debug"),
    ],
)
def test_an_image_has_every_package_that_its_process_imports(requirements: str, rooms: str) -> None:
    named = named_in(ROOT / "requirements" / f"{requirements}.txt")
    absent = installed_beside(named)
    assert named
    assert "pytest" in {module.partition(".")[0] for module in absent}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, rooms],
        input=" ".join(absent),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
