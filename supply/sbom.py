"""`python -m supply.sbom FOLDER`: what is in each image, as CycloneDX 1.6, from the pinned requirement files.

The same pins give the same bytes. Not in it: the packages of the Python image underneath, whose maker lists them.
"""

import importlib.metadata
import sys
import tomllib
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from supply.images import IMAGES, ROOT, requirements_of
from supply.pins import Pin, read_pins

# Of what made the list nothing is in it that would differ from one run to the next.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMESPACE = uuid.UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")
# A name of a licence; what is longer is its text.
LONGEST_NAME = 100


class SbomInvalid(Exception):
    """What was made does not fit CycloneDX's own schema; the text is what the validator says."""


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m supply.sbom FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        path = folder / f"{image}.cdx.json"
        pins = read_pins(requirements_of(image))
        path.write_text(sbom(image, fovea_version(), pins))
        print(f"{path}: {len(pins)} packages")
    return 0


def fovea_version() -> str:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def sbom(image: str, version: str, pins: Iterable[Pin]) -> str:
    """The image's list as JSON. Raises SbomInvalid."""
    whole = Component(
        name=f"fovea/{image}", version=version, type=ComponentType.CONTAINER, bom_ref=f"fovea/{image}"
    )
    components = [_component(pin) for pin in sorted(pins, key=lambda pin: pin.name)]
    bom = Bom(components=components)
    bom.metadata.component = whole
    bom.metadata.timestamp = EPOCH
    bom.serial_number = uuid.uuid5(
        NAMESPACE, " ".join(f"{one.name}=={one.version}" for one in [whole, *components])
    )
    bom.register_dependency(whole, components)
    text = str(JsonV1Dot6(bom).output_as_string(indent=2)) + "\n"
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SbomInvalid(f"{image}: {problem}")
    return text


def _component(pin: Pin) -> Component:
    purl = PackageURL("pypi", None, pin.name, pin.version)
    # One of these files is installed: which, the machine decides.
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(purl.to_string()),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content) for content in pin.hashes],
    )
    licences = list(_licences(pin))
    return Component(
        name=pin.name,
        version=pin.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        external_references=[files],
        licenses=[LicenseFactory().make_from_string(licence) for licence in licences],
        properties=[] if licences else [Property(name="fovea:licence", value="unknown")],
    )


def _licences(pin: Pin) -> Iterator[str]:
    """As the package says of itself, where this machine has it in that version."""
    try:
        found = importlib.metadata.metadata(pin.name)
    except importlib.metadata.PackageNotFoundError:
        return
    if found["Version"] != pin.version or canonicalize_name(found["Name"]) != pin.name:
        return
    named = found["License-Expression"] or found["License"] or ""
    if named and len(named) <= LONGEST_NAME and "\n" not in named.strip():
        yield named.strip()
        return
    for classifier in found.get_all("Classifier", []):
        parts = classifier.split(" :: ")
        if parts[0] == "License" and len(parts) > 2:
            yield parts[-1]
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
