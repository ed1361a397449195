"""Each of the doctor's checks finds the fault it is there for."""

import py_compile
from pathlib import Path

import pytest

from cli import checks
from cli.checks import Level
from cli.up.data_folder import claim_data_folder


def test_two_builds_of_one_runtime_are_a_problem() -> None:
    finding = checks.check_runtimes(("pytest", "typer"))
    assert finding.level is Level.PROBLEM
    assert "overwrite each other" in finding.detail
    assert "uninstall" in finding.fix


def test_no_runtime_is_a_problem() -> None:
    assert checks.check_runtimes(("no-such-package",)).level is Level.PROBLEM


def test_a_data_folder_behind_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert checks.check_data_folder(tmp_path / "file" / "data").level is Level.PROBLEM


def test_a_data_folder_in_use_names_its_fovea(tmp_path: Path) -> None:
    assert checks.check_data_folder(tmp_path).detail.endswith("not in use")
    with claim_data_folder(tmp_path) as folder:
        folder.announce("http://127.0.0.1:8000")
        finding = checks.check_data_folder(tmp_path)
    assert finding.level is Level.OK
    assert "http://127.0.0.1:8000" in finding.detail


def test_weights_are_counted(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "resnet18.pth").write_bytes(b"x" * 2_000_000)
    finding = checks.check_weights(tmp_path)
    assert finding.detail == f"{tmp_path}, 1 files, 2.0 MB"


def test_a_full_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_DISK_NEEDED", 1 << 60)
    assert checks.check_disk(tmp_path).level is Level.PROBLEM


def test_a_runtime_that_cannot_be_loaded_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libcudart.so.13 is missing')")
    (tmp_path / "torch.py").write_text("raise ImportError('torch was built for another processor')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = checks.check_onnxruntime()
    assert finding.level is Level.PROBLEM
    assert "libcudart.so.13 is missing" in finding.detail
    assert "another processor" in checks.check_torch().detail


def test_packages_that_every_start_compiles_anew_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "bare"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    finding = checks.check_bytecode(("bare", "not-installed"), may_write=False)
    assert finding.level is Level.WARNING
    assert "not compiled: bare, and PYTHONDONTWRITEBYTECODE is set" in finding.detail
    assert finding.fix.endswith(f"-m compileall -q {package.parent}")
    assert "the first start" in checks.check_bytecode(("bare",), may_write=True).detail
    py_compile.compile(str(package / "__init__.py"))
    assert checks.check_bytecode(("bare",), may_write=False).detail == "packages are compiled"
