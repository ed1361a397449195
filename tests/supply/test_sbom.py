"""The lists of what is in the images: valid, complete, repeatable."""

import json
import re
from pathlib import Path

import pytest

from supply.images import IMAGES, ROOT, requirements_of
from supply.pins import Pin, PinUnreadable, read_pins
from supply.sbom import sbom


def test_an_image_lists_every_package_that_its_pins_install_with_its_hashes() -> None:
    pins = read_pins(requirements_of("worker-inference"))
    listed = json.loads(sbom("worker-inference", "1.2.3", pins))
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    assert listed["metadata"]["component"]["version"] == "1.2.3"
    found = {
        (
            one["name"],
            one["version"],
            tuple(sorted(sha["content"] for sha in one["externalReferences"][0]["hashes"])),
        )
        for one in listed["components"]
    }
    assert found == {(pin.name, pin.version, tuple(sorted(pin.hashes))) for pin in pins}
    named = set(re.findall(r"^([a-z0-9._-]+)==", requirements_of("worker-inference").read_text(), re.MULTILINE))
    assert {pin.name for pin in pins} <= named
    assert {"onnxruntime", "pillow", "celery"} <= {pin.name for pin in pins}
    (pillow,) = (one for one in listed["components"] if one["name"] == "pillow")
    assert pillow["purl"].startswith("pkg:pypi/pillow@")
    assert pillow["licenses"]
    assert sbom("worker-inference", "1.2.3", pins) == sbom("worker-inference", "1.2.3", reversed(pins))


def test_the_images_are_those_of_the_dockerfile() -> None:
    text = (ROOT / "docker/Dockerfile").read_text() + (ROOT / "docker/install-training.sh").read_text()
    targets = set(re.findall(r"^FROM base AS ([a-z-]+)$", text, re.MULTILINE))
    assert {image.removesuffix("-cuda") for image in IMAGES} == targets
    mounted = set(re.findall(r"source=requirements/([a-z-]+)(?:\$\{ACCELERATOR\})?\.txt", text))
    expected = {"inference-" if name.startswith("inference-") else name for name in IMAGES.values()}
    assert mounted == expected


def test_a_package_for_another_system_is_in_no_image(tmp_path: Path) -> None:
    file = tmp_path / "pins.txt"
    sha = "a" * 64
    file.write_text(
        f"here==1.0 ; sys_platform == 'linux' \\\n    --hash=sha256:{sha}\n"
        f"there==2.0 ; sys_platform == 'win32' \\\n    --hash=sha256:{sha}\n"
    )
    assert read_pins(file) == (Pin("here", "1.0", (sha,)),)


@pytest.mark.parametrize(
    "line", ["free>=1.0 --hash=sha256:" + "a" * 64, "unhashed==1.0", "-r other.txt", "", "star==1.*"]
)
def test_what_is_not_pinned_with_its_hashes_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "pins.txt"
    file.write_text(line + "\n")
    with pytest.raises(PinUnreadable):
        read_pins(file)
