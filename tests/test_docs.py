"""The documentation holds what the code has: every setting, call, error code, metric and file."""

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from service.errors import STATUS_AND_CODE, STATUS_OF_WORKER_CODE
from service.metrics import Metrics
from service.routes import architectures, classify, datasets, finetunes, health, jobs, models
from service.settings import GatewaySettings
from workers.settings import WorkerSettings

ROOT = Path(__file__).parent.parent
ROOMS = ("service", "workers", "models", "storage", "cli", "benchmarks")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", [GatewaySettings, WorkerSettings])
def test_every_setting_is_in_operations_with_its_default(settings: type[BaseSettings]) -> None:
    text = read("docs/operations.md")
    for name, field in settings.model_fields.items():
        assert f"| `FOVEA_{name.upper()}` |" in text, name
        assert field.description, name
        assert field.description in text, name


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


def test_every_file_has_its_line_on_the_map() -> None:
    text = read("ARCHITECTURE.md")
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if path.name != "__init__.py"]
    missing = [name for path in files if "versions" not in path.parts and f"`{(name := path.name)}`" not in text]
    assert missing == []


def test_the_map_names_no_file_that_is_gone() -> None:
    names = set(re.findall(r"`(\w+\.py)`", read("ARCHITECTURE.md")))
    present = {path.name for room in (*ROOMS, "tests") for path in (ROOT / room).rglob("*.py")}
    assert names - present == set()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", read(page)):
        assert (ROOT / target).exists(), target
