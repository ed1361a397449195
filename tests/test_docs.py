"""The pages say what the code has, no more and no less: calls, scopes, errors, metrics, settings, files."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from pydantic_settings import BaseSettings
from support.pages import ROOT, Page, in_backticks, pages
from support.told import statuses_and_codes

from service.app import create_app
from service.auth import SCOPES, declared_scopes
from service.main import build_parts
from service.metrics import GatewayMetrics
from service.settings import GatewaySettings
from workers.contract.jobs.finetune import FinetuneRequest
from workers.settings import WorkerSettings

API, OPERATIONS, TEACH = Page("docs/api.md"), Page("docs/operations.md"), Page("docs/teach.md")
PROTOCOL = Page("docs/protocol.md")
PAGES = [*pages()]
CALL = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/\S*)")


def test_the_map_and_the_settings_are_what_the_code_says() -> None:
    check = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize("settings", [GatewaySettings, WorkerSettings])
def test_every_setting_says_what_it_does(settings: type[BaseSettings]) -> None:
    assert [name for name, field in settings.model_fields.items() if not field.description] == []


def test_the_page_lists_every_field_of_a_fine_tune_with_its_range() -> None:
    """Those of an object in the request too, but the recipe's: they have a table of their own."""
    schema = FinetuneRequest.model_json_schema()
    rows = {field.strip("`"): values for field, _, values, _ in TEACH.table("field", "default", "values", "means")}
    fields = dict(fields_of(schema, schema))
    assert list(rows) == list(fields)
    ranges = {name: field for name, field in fields.items() if "minimum" in field}
    assert set(ranges) == {"validation.fraction", "seed"}
    for name, field in ranges.items():
        assert rows[name].startswith(f"{field['minimum']:g} to ")


def fields_of(schema: Any, whole: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in schema["properties"].items():
        yield prefix + name, field
        if "$ref" in field:
            yield from fields_of(whole["$defs"][field["$ref"].rpartition("/")[2]], whole, f"{prefix}{name}.")


# Calls


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the application answers, as OpenAPI describes it, by method and path."""
    parts = build_parts(GatewaySettings(data=tmp_path_factory.mktemp("data")))
    described = create_app(parts).openapi()["paths"]
    parts.database.close()
    return {
        f"{method.upper()} {unnamed(path)}": operation
        for path, methods in described.items()
        for method, operation in methods.items()
    }


def unnamed(path: str) -> str:
    return re.sub(r"\{\w+(:path)?\}", "{}", path)


def documented_calls() -> Iterator[tuple[str, str, list[str], str]]:
    """Method, path, names of query parameters and scope of every call in the tables."""
    rows = [*API.table("call", "scope", "does"), *PROTOCOL.table("call", "scope", "answers")]
    for calls, scope, _ in rows:
        for call in in_backticks(calls):
            method, path = call.split(" ", 1)
            path, _, query = path.partition("?")
            yield method, path, [pair.partition("=")[0] for pair in query.split("&") if pair], scope


def test_the_page_lists_every_call_and_no_other(operations: dict[str, dict[str, Any]]) -> None:
    listed = [f"{method} {unnamed(path)}" for method, path, _, _ in documented_calls()]
    assert sorted(listed) == sorted(operations)


def test_the_query_parameters_in_the_table_are_taken(operations: dict[str, dict[str, Any]]) -> None:
    for method, path, query, _ in documented_calls():
        known = {p["name"] for p in operations[f"{method} {unnamed(path)}"].get("parameters", ())}
        assert set(query) <= known, f"{method} {path}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_calls_named_in_prose_exist(page: Page, operations: dict[str, dict[str, Any]]) -> None:
    if page.is_history:
        return
    for code in page.code():
        if call := CALL.match(code):
            path = re.sub(r"/\.\.\.", "", call[2].partition("?")[0])
            assert any(known.startswith(f"{call[1]} {unnamed(path)}") for known in operations), code


def test_the_page_names_the_scope_that_each_call_declares(tmp_path: Path) -> None:
    """That it is what a key really needs, `tests/service/test_auth.py` holds."""
    parts = build_parts(GatewaySettings(data=tmp_path))
    declared: dict[str, str] = {}
    for route in iter_route_contexts(create_app(parts).routes):
        if dependant := getattr(route, "dependant", None):
            scopes = declared_scopes(dependant)
            needed = max(filter(None, scopes), key=SCOPES.index, default="any" if scopes else "none")
            declared |= {f"{method} {unnamed(route.path or '')}": needed for method in route.methods or ()}
    parts.database.close()
    stated = {
        f"{method} {unnamed(path)}": scope.partition(";")[0] for method, path, _, scope in documented_calls()
    }
    assert stated == declared


# Errors


def test_the_page_lists_every_error_with_its_status_and_no_other() -> None:
    listed = [
        (int(status), code)
        for status, codes, _ in API.table("status", "code", "when")
        for code in in_backticks(codes)
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == statuses_and_codes()


# GatewayMetrics and settings


def test_the_page_lists_every_metric_and_no_other() -> None:
    listed = {
        code.partition("{")[0]
        for metrics, _ in OPERATIONS.table("metric", "what")
        for code in in_backticks(metrics)
    }
    collected = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in GatewayMetrics().registry.collect()
    }
    assert listed == collected


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_settings_that_a_page_names_exist(page: Page, names_in_use: set[str]) -> None:
    assert set(re.findall(r"\bFOVEA_[A-Z0-9_]*[A-Z0-9]", page.text)) - names_in_use == set()


@pytest.fixture(scope="module")
def names_in_use() -> set[str]:
    """Variables that a process, a command, the compose project or a test reads."""
    names = {f"FOVEA_{name.upper()}" for kind in (GatewaySettings, WorkerSettings) for name in kind.model_fields}
    for folder in ("cli", "docker", "tests", ".ci"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix not in (".md", ".pyc"):
                names |= set(re.findall(r"\bFOVEA_[A-Z0-9_]+", file.read_text(encoding="utf-8", errors="ignore")))
    return names | set(re.findall(r"\bFOVEA_[A-Z0-9_]+", (ROOT / "docker-compose.yml").read_text()))


# Links, files and make targets


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Page) -> None:
    for target in page.links():
        name, _, anchor = target.partition("#")
        found = (page.path.parent / name).resolve() if name else page.path
        assert found.exists(), target
        if anchor:
            assert anchor in Page(found.relative_to(ROOT).as_posix()).anchors(), target


@pytest.fixture(scope="module")
def files() -> set[str]:
    skipped = {".venv", ".git", "__pycache__", "data"}
    return {
        path.relative_to(ROOT).as_posix()
        for top in ROOT.iterdir()
        if top.name not in skipped
        for path in (top.rglob("*") if top.is_dir() else [top])
    }


@pytest.mark.parametrize("page", [page for page in PAGES if not page.is_history], ids=str)
def test_source_files_that_a_page_names_exist(page: Page, files: set[str]) -> None:
    for code in page.code():
        if re.fullmatch(r"[\w./-]+\.py", code):
            assert any(file == code or file.endswith(f"/{code}") for file in files), code


@pytest.mark.parametrize("page", [page for page in PAGES if not page.is_history], ids=str)
def test_make_targets_that_a_page_names_exist(page: Page) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {code.split()[1] for code in page.code() if code.startswith("make ")}
    named |= set(re.findall(r"^make (\S+)", "\n".join(page.blocks("sh")), re.MULTILINE))
    assert named - targets == set()
