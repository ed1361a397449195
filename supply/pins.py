"""The packages that a hash-pinned requirement file puts on a machine. Knows no image and no database."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# What the images are: the files themselves are for every system.
LINUX: Mapping[str, str] = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "python_version": "3.12",
    "python_full_version": "3.12.0",
}


class PinUnreadable(Exception):
    """A line of a requirement file is no pin; the text says which."""


@dataclass(frozen=True)
class Pin:
    """`name` in its canonical form; `hashes` (SHA-256) of the files that are allowed: one of them is installed."""

    name: str
    version: str
    hashes: tuple[str, ...]


def read_pins(path: Path, environment: Mapping[str, str] = LINUX) -> tuple[Pin, ...]:
    """The pins that apply in that environment, by name. Raises PinUnreadable and OSError."""
    pins = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pin = _read(line, environment)
        if pin:
            pins[pin.name] = pin
    if not pins:
        raise PinUnreadable(f"{path} pins nothing")
    return tuple(pins[name] for name in sorted(pins))


def _read(line: str, environment: Mapping[str, str]) -> Pin | None:
    try:
        requirement = Requirement(line.partition("--hash=")[0].strip())
    except InvalidRequirement as exc:
        raise PinUnreadable(f"{line[:100]!r} is no requirement: {exc}") from exc
    if requirement.marker and not requirement.marker.evaluate({**default_environment(), **environment}):
        return None
    exact = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
    hashes = tuple(_HASH.findall(line))
    if len(exact) != 1 or len(requirement.specifier) != 1 or not hashes:
        raise PinUnreadable(f"{line[:100]!r} is not pinned to one version by ==, with its hashes")
    return Pin(canonicalize_name(requirement.name), exact[0], hashes)
