"""Which pins each image is made of. Knows no format."""

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "requirements"

# As `docker/Dockerfile` installs them; a test compares the two.
IMAGES: Mapping[str, str] = {
    "gateway": "gateway",
    "worker-inference": "inference-cpu",
    "worker-inference-cuda": "inference-cuda",
    "worker-training": "training",
    "debug": "debug",
}


def requirements_of(image: str) -> Path:
    return REQUIREMENTS / f"{IMAGES[image]}.txt"
