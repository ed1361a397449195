import dataclasses
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.artifact import Manifest, read_manifest, software_versions, verify, write_manifest
from models.errors import ArtifactCorrupt, ArtifactNotFound
from models.spec import Preprocessing


def a_manifest(**changes: Any) -> Manifest:
    given: dict[str, Any] = {
        "model": "ants-bees",
        "labels": ("ant", "bee"),
        "preprocessing": Preprocessing(height=32, width=32, resize=32),
        "architecture": "lenet5",
    }
    return Manifest(**(given | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "curve.svg").write_text("<svg/>")
    return tmp_path


def test_the_manifest_lists_every_file_with_its_hash_and_size(folder: Path) -> None:
    manifest = write_manifest(folder, a_manifest())
    assert manifest.files == {
        "model.onnx": {"sha256": sha256(b"graph").hexdigest(), "bytes": 5},
        "plots/curve.svg": {"sha256": sha256(b"<svg/>").hexdigest(), "bytes": 6},
    }
    assert read_manifest(folder) == manifest
    assert verify(folder) == manifest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    labels=st.lists(st.text(), min_size=1).map(tuple),
    facts=st.dictionaries(st.text(), json_values, max_size=3),
    seed=st.none() | st.integers(0, 2**32),
)
def test_a_manifest_survives_its_json(labels: tuple[str, ...], facts: dict[str, Any], seed: int | None) -> None:
    manifest = a_manifest(labels=labels, weights=facts, dataset=facts, metrics=facts, seed=seed)
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict()))) == manifest


def test_a_folder_without_a_manifest_is_no_artifact(folder: Path) -> None:
    with pytest.raises(ArtifactNotFound, match=r"manifest\.json is missing"):
        read_manifest(folder)
    with pytest.raises(ArtifactNotFound):
        verify(folder / "absent")
    with pytest.raises(ArtifactNotFound):
        read_manifest(folder / "model.onnx")


def test_what_a_crash_leaves_behind_is_no_artifact_and_harms_no_later_one(folder: Path) -> None:
    (folder / ".manifest.json.part").write_text('{"format": 1, "model": "ants')
    with pytest.raises(ArtifactNotFound):
        read_manifest(folder)
    assert set(write_manifest(folder, a_manifest()).files) == {"model.onnx", "plots/curve.svg"}
    assert not (folder / ".manifest.json.part").exists()


def test_a_kill_at_any_moment_leaves_a_whole_artifact_or_none(folder: Path) -> None:
    (folder / "large.bin").write_bytes(bytes(30_000_000))
    script = (
        "import sys; from pathlib import Path; from models.artifact import Manifest, write_manifest\n"
        "from models.spec import Preprocessing\n"
        "manifest = Manifest(model='m', labels=('a',), preprocessing=Preprocessing(), architecture='x')\n"
        "print('ready', flush=True)\n"
        "while True: write_manifest(Path(sys.argv[1]), manifest)\n"
    )
    for wait in (0.0, 0.005, 0.02, 0.05, 0.1, 0.2):
        (folder / "manifest.json").unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        if (folder / "manifest.json").exists():
            assert verify(folder).model == "m"


def test_a_changed_file_is_named_with_both_hashes(folder: Path) -> None:
    write_manifest(folder, a_manifest())
    (folder / "model.onnx").write_bytes(b"grapf")
    with pytest.raises(ArtifactCorrupt) as refusal:
        verify(folder)
    for part in ("model.onnx", sha256(b"graph").hexdigest(), sha256(b"grapf").hexdigest()):
        assert part in str(refusal.value)


def test_only_the_files_asked_for_are_compared(folder: Path) -> None:
    write_manifest(folder, a_manifest())
    (folder / "plots" / "curve.svg").write_text("changed")
    assert verify(folder, ["model.onnx"]).model == "ants-bees"
    with pytest.raises(ArtifactCorrupt, match="does not list weights"):
        verify(folder, ["weights.bin"])


def test_a_missing_file_is_named(folder: Path) -> None:
    write_manifest(folder, a_manifest())
    (folder / "plots" / "curve.svg").unlink()
    with pytest.raises(ArtifactCorrupt, match=r"plots/curve\.svg is missing"):
        verify(folder)


def test_an_artifact_needs_a_model(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("card")
    with pytest.raises(ArtifactCorrupt, match=r"no model\.onnx"):
        write_manifest(tmp_path, a_manifest())
    assert not (tmp_path / "manifest.json").exists()


def test_links_are_not_published(folder: Path) -> None:
    (folder / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(ArtifactCorrupt, match="passwords is a link"):
        write_manifest(folder, a_manifest())


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "plots/../../secret", "..\\secret"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_bytes(b"x")
    manifest = write_manifest(folder, a_manifest()).to_dict()
    manifest["files"][name] = {"sha256": sha256(b"x").hexdigest(), "bytes": 1}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactCorrupt, match="outside its folder"):
        verify(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"format": 1}', '{"format": 1, "labels": 3}', '{"a": NaN'],
)
def test_a_manifest_that_is_not_one_is_corrupt(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactCorrupt):
        read_manifest(folder)


@pytest.mark.parametrize("field", ["model", "labels", "preprocessing", "architecture"])
def test_a_manifest_without_what_serving_needs_is_corrupt(field: str) -> None:
    values = a_manifest().to_dict()
    del values[field]
    with pytest.raises(ArtifactCorrupt, match=field):
        Manifest.from_dict(values)


def test_bytes_that_are_not_text_are_corrupt(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ArtifactCorrupt, match="not UTF-8"):
        read_manifest(folder)


def test_fields_of_a_later_release_are_ignored_and_a_later_format_is_not() -> None:
    values = a_manifest().to_dict()
    assert Manifest.from_dict(values | {"mood": "good"}) == dataclasses.replace(
        a_manifest(), created_at=values["created_at"]
    )
    with pytest.raises(ArtifactCorrupt, match=r"format 3.* reads 1 and 2"):
        Manifest.from_dict(values | {"format": 3})


def test_software_versions_name_what_is_installed() -> None:
    versions = software_versions()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "onnx", "numpy", "pillow"} <= set(versions)
