"""`fovea weights`: listed without torch, imported, verified, pulled from a mirror, refused."""

import hashlib
import http.server
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import command
from support.command import Done
from support.served import served


def fovea(*arguments: str, folder: Path) -> Done:
    return command.fovea("weights", *arguments, "--weights-dir", str(folder))


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    root = tmp_path / "mirror"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))

        def log_message(self, *args: object) -> None:
            pass

    with served(Handler) as url:
        yield url, root


@pytest.fixture
def lenet(tmp_path: Path) -> Path:
    import torch

    from models.zoo import registry

    torch.save(registry.build("lenet5", 3).state_dict(), tmp_path / "lenet.pth")
    return tmp_path / "lenet.pth"


def test_the_list_names_published_weights_with_accuracy_and_licence(tmp_path: Path) -> None:
    said = fovea("list", "mobilenet_v1_025", folder=tmp_path).stdout
    assert "imagenet (default)" in said
    assert "50.6 %" in said
    assert "Apache-2.0" in said
    everything = json.loads(fovea("list", "--json", folder=tmp_path).stdout)
    assert len(everything) > 100
    assert not any(weights["here"] for weights in everything)


def test_an_imported_file_is_listed_verified_and_found_when_it_changes(tmp_path: Path, lenet: Path) -> None:
    folder = tmp_path / "weights"
    (tmp_path / "labels.txt").write_text("ant\nbee\nwasp\n")
    labels = str(tmp_path / "labels.txt")
    done = fovea("import", str(lenet), "-a", "lenet5", "-n", "insects", "--labels", labels, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "lenet5 insects: 10 tensors loaded, 3 classes" in done.stdout
    assert "insects" in fovea("list", "--here", folder=folder).stdout
    assert fovea("verify", folder=folder).returncode == 0
    copy = folder / "imported" / "lenet5" / "insects.pth"
    copy.write_bytes(copy.read_bytes() + b"!")
    verdict = fovea("verify", folder=folder)
    assert verdict.returncode == 1
    assert verdict.stdout.splitlines()[1].startswith("corrupt")


def test_a_file_for_another_network_is_refused_in_one_line(tmp_path: Path, lenet: Path) -> None:
    done = fovea("import", str(lenet), "-a", "maxout", "-n", "wrong", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("fovea: lenet.pth does not fit maxout")
    assert "Traceback" not in done.stderr


def test_a_pickled_network_is_refused_with_the_way_to_save_its_weights(tmp_path: Path) -> None:
    import torch

    torch.save(torch.nn.Linear(3, 2), tmp_path / "full.pth")
    done = fovea("import", str(tmp_path / "full.pth"), "-a", "lenet5", "-n", "whole", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "fovea: full.pth holds a pickled torch.nn.modules.linear.Linear, which could run"
    )
    for way in ("torch.save(network.state_dict()", "safetensors.torch.save_file("):
        assert way in done.stderr
    assert done.stderr.isprintable() or done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    assert "Weights only load failed" not in done.stderr


def test_pulling_from_a_mirror_checks_the_digits_in_the_name(tmp_path: Path, mirror: tuple[str, Path]) -> None:
    url, root = mirror
    (root / "models").mkdir()
    (root / "models" / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"not the published file")
    done = fovea("pull", "squeezenet1_1", "--url", url, folder=tmp_path / "weights")
    assert done.returncode == 1
    assert hashlib.sha256(b"not the published file").hexdigest() in done.stderr
    assert "b8a52dc0" in done.stderr
    assert not list((tmp_path / "weights").glob("*.p*"))


def test_pulling_offline_names_the_file_the_folder_and_the_address(tmp_path: Path) -> None:
    done = fovea("pull", "resnet18", "--offline", folder=tmp_path)
    assert done.returncode == 1
    for said in ("resnet18-f37072fd.pth", str(tmp_path), "https://download.pytorch.org/models/"):
        assert said in done.stderr


@pytest.mark.data
def test_the_real_file_is_verified_and_a_corrupted_copy_is_refused(test_data: Path, tmp_path: Path) -> None:
    done = fovea("pull", "mobilenet_v1_025", folder=test_data / "weights")
    assert done.returncode == 0
    assert "verified by the sha256 known to Fovea" in done.stdout
    content = bytearray((test_data / "weights" / "mobilenet_2_5_224_tf.h5").read_bytes())
    content[-1] ^= 1
    (tmp_path / "mobilenet_2_5_224_tf.h5").write_bytes(content)
    refused = fovea("pull", "mobilenet_v1_025", folder=tmp_path)
    assert refused.returncode == 1
    assert "is not the published file" in refused.stderr
    assert fovea("verify", folder=tmp_path).returncode == 1


def test_one_set_of_weights_is_shown_with_its_provenance(tmp_path: Path) -> None:
    shown = json.loads(fovea("show", "vit_b_16", "imagenet1k_swag_e2e_v1", "--json", folder=tmp_path).stdout)
    assert shown["licence"] == "CC-BY-NC-4.0"
    assert shown["preprocessing"]["height"] == 384
    unknown = fovea("show", "resnet50", "v9", folder=tmp_path)
    assert "imagenet1k_v1, imagenet1k_v2" in unknown.stderr
