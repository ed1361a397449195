import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., bytes]
Pack = Callable[[Path, Mapping[str, bytes]], Path]


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Makes the bytes of a picture: the same seed gives the same scene, another seed quite another."""

    def make(
        seed: int = 0, size: tuple[int, int] = (48, 40), kind: str = "JPEG", mode: str = "RGB", **options
    ) -> bytes:
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        scene = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)
        buffer = io.BytesIO()
        scene.save(buffer, kind, **options)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def make_zip() -> Pack:
    def make(path: Path, files: Mapping[str, bytes]) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path

    return make


@pytest.fixture(scope="session")
def make_tar() -> Pack:
    """A name that ends in a slash becomes a folder; a path that ends in gz is compressed."""

    def make(path: Path, files: Mapping[str, bytes]) -> Path:
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name.rstrip("/"))
                entry.size = len(content)
                if name.endswith("/"):
                    entry.type = tarfile.DIRTYPE
                archive.addfile(entry, io.BytesIO(content))
        return path

    return make


@pytest.fixture(scope="session")
def make_folder() -> Pack:
    def make(path: Path, files: Mapping[str, bytes]) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            target = path / name
            if name.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        return path

    return make
