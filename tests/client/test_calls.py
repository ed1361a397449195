"""The client speaks all of the API, in the API's own words."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from fovea_client import AsyncFovea, Fovea, calls
from fovea_client.call import Call
from service.app import create_app
from service.main import build_parts
from service.schemas.models import ModelPatch
from service.schemas.webhooks import WebhookPatch, WebhookRequest
from service.settings import GatewaySettings
from workers.contract.jobs.diagnose import DiagnoseOptions
from workers.contract.jobs.evaluate import EvaluateOptions
from workers.contract.jobs.finetune import FinetuneRequest
from workers.contract.jobs.model_file import UploadOptions
from workers.contract.jobs.publish import PublishOptions
from workers.contract.jobs.variants import VariantsOptions
from workers.contract.revisions import RevisionOptions

SAMPLES = {
    str: "x", int: 1, bytes: b"x", "params": {}, "fields": {}, "images": [], "archive": b"x",
}  # fmt: skip
# The other protocol has clients of its own.
OTHER_CLIENTS = re.compile(r"\w+ /v2\b")


def every_call() -> dict[str, Call[Any]]:
    """Each function of `fovea_client.calls` that makes one, called with arguments of no meaning."""
    found = {}
    for name, function in inspect.getmembers(calls, inspect.isfunction):
        if name.startswith("_") or function.__module__ != calls.__name__ or name == "readiness_of":
            continue
        parameters = inspect.signature(function).parameters.values()
        arguments = {
            one.name: SAMPLES.get(one.name, SAMPLES.get(one.annotation))
            for one in parameters
            if one.default is one.empty
        }
        found[name] = function(**arguments)
    return found


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    parts = build_parts(GatewaySettings(data=tmp_path_factory.mktemp("data")))
    described = create_app(parts).openapi()["paths"]
    parts.database.close()
    return {
        f"{method.upper()} {path}": operation
        for path, methods in described.items()
        for method, operation in methods.items()
    }


def route_of(call: Call[Any], routes: dict[str, Any]) -> str:
    """The narrowest that its path belongs to."""
    asked = f"{call.request.method} {call.request.path}"
    fitting = [route for route in routes if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", route), asked)]
    return min(fitting, key=lambda route: route.count("{"), default=f"none for {asked}")


def test_every_call_of_the_api_has_a_function_and_no_other(routes: dict[str, Any]) -> None:
    spoken = {route_of(call, routes) for call in every_call().values()}
    assert spoken == {route for route in routes if not OTHER_CLIENTS.match(route)}


def test_query_parameters_are_those_that_the_call_takes(routes: dict[str, Any]) -> None:
    given = {
        "list_jobs": calls.list_jobs("queued", "finetune", 5),
        "list_audit": calls.list_audit("a", "b", "c", "d", 5),
        **{
            name: getattr(calls, name)("x", 5)
            for name in ("list_models", "list_datasets", "list_architectures", "list_versions", "list_revisions")
        },
        "list_models": calls.list_models("x", 5, "a"),
        "list_images": calls.list_images("d", "ant", "val", 5),
        "list_webhooks": calls.list_webhooks(5),
        "list_deliveries": calls.list_deliveries("w", 5),
        "get_card": calls.get_card("m", 1, "md"),
        "get_results": calls.get_results("j", "text/csv", partial=True, differing=True),
        "delete_model": calls.delete_model("m", force=True),
    }
    for name, call in {**every_call(), **given}.items():
        known = {
            one["name"] for one in routes[route_of(call, routes)].get("parameters", ()) if one["in"] == "query"
        }
        assert set(call.request.params) <= known, name


def test_what_makes_something_has_an_idempotency_key_and_only_that_may_be_repeated() -> None:
    making_nothing = ("classify", "classify_many", "explain", "explain_many", "embed", "similar", "cancel_job")
    for name, call in every_call().items():
        if call.request.method == "POST" and name not in making_nothing:
            assert ("Idempotency-Key" in call.request.headers) == call.is_repeatable, name


@pytest.mark.parametrize(
    ("method", "model", "own"),
    [
        (Fovea.finetune, FinetuneRequest, {"idempotency_key"}),
        (Fovea.evaluate, EvaluateOptions, {"idempotency_key"}),
        (Fovea(url="http://x").datasets.diagnose, DiagnoseOptions, {"dataset", "idempotency_key"}),
        (Fovea(url="http://x").models.publish, PublishOptions, {"model"}),
        (Fovea(url="http://x").models.upload, UploadOptions, {"model", "file", "progress"}),
        (Fovea(url="http://x").models.try_variants, VariantsOptions, {"model", "version"}),
        (Fovea(url="http://x").models.describe, ModelPatch, {"model"}),
        (Fovea(url="http://x").datasets.revise, RevisionOptions, {"dataset", "add", "progress", "wait"}),
        (Fovea(url="http://x").webhooks.create, WebhookRequest, set()),
        (Fovea(url="http://x").webhooks.change, WebhookPatch, {"webhook"}),
    ],
)
def test_arguments_are_the_fields_of_the_request(method: Any, model: Any, own: set[str]) -> None:
    plan = getattr(method, "plan", method)
    assert set(inspect.signature(plan).parameters) - {"self"} - own == set(model.model_fields)


def test_both_clients_have_the_same_calls() -> None:
    """They share all but those that close them, classify and explain."""
    sync, asynchronous = (
        {name for name in vars(kind) if not name.startswith("__")} for kind in (Fovea, AsyncFovea)
    )
    assert (sync, asynchronous) == ({"classify", "explain", "close"}, {"classify", "explain", "aclose"})
    assert inspect.signature(Fovea.classify) == inspect.signature(AsyncFovea.classify)
    assert inspect.signature(Fovea.explain) == inspect.signature(AsyncFovea.explain)
    assert inspect.signature(Fovea) == inspect.signature(AsyncFovea)


def test_help_shows_the_words_and_arguments_of_a_call() -> None:
    with Fovea(url="http://127.0.0.1:1") as fovea:
        assert str(inspect.signature(fovea.models.get)) == "(model: str)"
        assert (fovea.models.get.__doc__ or "").startswith("One model")
    assert Path(inspect.getsourcefile(type(fovea.models)) or "").name == "models.py"
