"""The documentation holds what the code has: every setting, call, error code, metric and file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from service.errors import STATUS_AND_CODE, STATUS_OF_WORKER_CODE
from service.metrics import Metrics
from service.routes import architectures, classify, datasets, finetunes, health, jobs, models
from service.settings import GatewaySettings
from workers.settings import WorkerSettings

ROOT = Path(__file__).parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_map_and_the_settings_are_what_the_code_says() -> None:
    check = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize("settings", [GatewaySettings, WorkerSettings])
def test_every_setting_says_what_it_does(settings: type[BaseSettings]) -> None:
    assert [name for name, field in settings.model_fields.items() if not field.description] == []


def test_every_call_is_in_the_api_page() -> None:
    text = read("docs/api.md")
    for routes in (architectures, classify, datasets, finetunes, health, jobs, models):
        for route in routes.router.routes:
            last = re.sub(r"\{\w+(:path)?\}", "", route.path).rstrip("/").rpartition("/")[2]
            assert last in text, route.path


def test_every_error_code_is_in_the_api_page() -> None:
    text = read("docs/api.md")
    codes = {code for _, code in STATUS_AND_CODE.values()} | set(STATUS_OF_WORKER_CODE)
    for file in (ROOT / "service").rglob("*.py"):
        codes |= set(re.findall(r'Problem\(\s*\d{3},\s*"(\w+)"', file.read_text(encoding="utf-8")))
    assert {code for code in codes if f"`{code}`" not in text} == set()


def test_every_metric_is_in_operations() -> None:
    text = read("docs/operations.md")
    for family in Metrics().registry.collect():
        assert family.name in text


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", read(page)):
        assert (ROOT / target).exists(), target
