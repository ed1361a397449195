"""Every call of the REST API, a function each: what is sent, and how its answer is read."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from fovea_client.answer import Json, NotFoveasAnswer, json_object
from fovea_client.call import Call, Page, as_bytes, as_it_is, as_json, as_page, as_text, nothing
from fovea_client.record import Record
from fovea_client.records import (
    Alias,
    Architecture,
    AuditEntry,
    Dataset,
    DatasetImage,
    Delivery,
    Diagnosis,
    Drift,
    Evaluation,
    Filters,
    Model,
    Readiness,
    Report,
    Variants,
    Version,
    Webhook,
    WebhookTest,
)
from fovea_client.request import Body, FormFile, Request

# The answer to an upload comes when the archive is where blobs are kept, which may be far away.
SETTLING_S = 600.0
# A silent stream has a comment every 15 seconds.
SILENCE_S = 30.0

Params = Mapping[str, str | int | None]


def get_liveness() -> Call[Json]:
    return _get("/livez", as_json(as_it_is))


def get_readiness() -> Call[Readiness]:
    """Ready (200) or not (503)."""
    return Call(Request("GET", "/readyz"), readiness_of, answers=frozenset({503}))


def get_metrics() -> Call[str]:
    return _get("/metrics", as_text)


def classify(model: str, image: bytes, media_type: str, params: Params) -> Call[Json]:
    """One image as the body."""
    headers = {"Content-Type": media_type}
    request = Request("POST", _classify(model), _given(params), headers, content=image)
    return Call(request, as_json(as_it_is))


def classify_many(model: str, images: Sequence[FormFile], params: Params) -> Call[Json]:
    """Several as a form. Where they are too many for the key, waiting does not make them fewer."""
    request = Request("POST", _classify(model), _given(params), files=images)
    return Call(request, as_json(as_it_is), gives_up_at=frozenset({"too_many_in_flight"}))


def classify_later(model: str, images: Sequence[FormFile], params: Params) -> Call[Json]:
    headers = {"Prefer": "respond-async", **_once()}
    return Call(Request("POST", _classify(model), _given(params), headers, files=images), as_json(as_it_is))


def embed(model: str, images: Sequence[FormFile], params: Params) -> Call[Json]:
    """One or several as a form, and so below."""
    return _ask(f"{_model(model)}/embed", images, params)


def similar(model: str, images: Sequence[FormFile], params: Params) -> Call[Json]:
    return _ask(f"{_model(model)}/similar", images, params)


def explain(model: str, image: bytes, media_type: str, params: Params) -> Call[Json]:
    """One image as the body."""
    headers = {"Content-Type": media_type}
    return Call(Request("POST", _explain(model), _given(params), headers, content=image), as_json(as_it_is))


def explain_many(model: str, images: Sequence[FormFile], params: Params) -> Call[Json]:
    """Several as a form."""
    return Call(Request("POST", _explain(model), _given(params), files=images), as_json(as_it_is))


def list_models(
    search: str | None = None, page_size: int | None = None, tag: str | None = None
) -> Call[Page[Model]]:
    return _pages("/v1/models", Model, search=search, limit=page_size, tag=tag)


def get_model(model: str) -> Call[Model]:
    return _get(_model(model), as_json(Model.read))


def describe_model(model: str, fields: Json) -> Call[Model]:
    return Call(Request("PATCH", _model(model), json=fields), as_json(Model.read))


def delete_model(model: str, *, force: bool = False) -> Call[None]:
    return _delete(_model(model), force=force)


def list_versions(model: str, page_size: int | None = None) -> Call[Page[Version]]:
    return _pages(f"{_model(model)}/versions", Version, limit=page_size)


def publish(model: str, fields: Json) -> Call[Json]:
    return _make(f"{_model(model)}/versions", fields)


def publish_file(model: str, form: Body, content_type: str) -> Call[Json]:
    headers = {"Content-Type": content_type, **_once()}
    request = Request("POST", f"{_model(model)}/versions", headers=headers, content=form, timeout_s=SETTLING_S)
    return Call(request, as_json(as_it_is))


def get_version(model: str, version: int) -> Call[Version]:
    return _get(_version(model, version), as_json(Version.read))


def delete_version(model: str, version: int, *, force: bool = False) -> Call[None]:
    return _delete(_version(model, version), force=force)


def get_artifact(model: str, version: int) -> Call[None]:
    return _get(f"{_version(model, version)}/artifact", nothing)


def get_card(model: str, version: int, form: str) -> Call[str]:
    return _get(f"{_version(model, version)}/card", as_text).with_params(format=form)


def get_variants(model: str, version: int) -> Call[Variants]:
    return _get(f"{_version(model, version)}/variants", as_json(Variants.read))


def get_filters(model: str, version: int) -> Call[Filters]:
    return _get(f"{_version(model, version)}/filters", as_json(Filters.read))


def get_filters_picture(model: str, version: int, picture: str) -> Call[bytes]:
    return _get(f"{_version(model, version)}/filters/{_path(picture)}", as_bytes)


def try_variants(model: str, version: int, fields: Json) -> Call[Json]:
    return _make(f"{_version(model, version)}/variants", fields)


def get_drift(model: str, version: int, window: str) -> Call[Drift]:
    return _get(f"{_version(model, version)}/drift", as_json(Drift.read)).with_params(window=window)


def get_alias(model: str, alias: str) -> Call[Alias]:
    return _get(_alias(model, alias), as_json(Alias.read))


def set_alias(model: str, alias: str, version: int) -> Call[Model]:
    return Call(Request("PUT", _alias(model, alias), json={"version": version}), as_json(Model.read))


def roll_back_alias(model: str, alias: str, present: int) -> Call[Model]:
    """Sent again it would be refused, for the alias is not at `present` any more: this has moved it."""
    request = Request("POST", f"{_alias(model, alias)}/rollback", json={"from": present})
    return Call(request, as_json(Model.read), is_repeatable=False)


def delete_alias(model: str, alias: str) -> Call[None]:
    return _delete(_alias(model, alias))


def finetune(fields: Json, idempotency_key: str | None = None) -> Call[Json]:
    return _make("/v1/finetunes", fields, idempotency_key)


def start_classification(fields: Json, idempotency_key: str | None = None) -> Call[Json]:
    return _make("/v1/classifications", fields, idempotency_key)


def start_evaluation(fields: Json, idempotency_key: str | None = None) -> Call[Json]:
    return _make("/v1/evaluations", fields, idempotency_key)


def get_evaluation(job: str) -> Call[Evaluation]:
    return _get(_evaluation(job), as_json(Evaluation.read))


def get_evaluation_card(job: str, form: str) -> Call[str]:
    return _get(f"{_evaluation(job)}/card", as_text).with_params(format=form)


def create_dataset(
    archive: bytes | Body, name: str, on_fault: str, media_type: str, labels: str = "folders"
) -> Call[Json]:
    headers = {"Content-Type": media_type, **_once()}
    # A server of an earlier release does not know `labels`.
    params = {"name": name, "on_fault": on_fault} | ({} if labels == "folders" else {"labels": labels})
    request = Request("POST", "/v1/datasets", params, headers, content=archive, timeout_s=SETTLING_S)
    return Call(request, as_json(as_it_is))


def list_datasets(search: str | None = None, page_size: int | None = None) -> Call[Page[Dataset]]:
    return _pages("/v1/datasets", Dataset, search=search, limit=page_size)


def get_dataset(dataset: str) -> Call[Dataset]:
    return _get(_dataset(dataset), as_json(Dataset.read))


def get_report(dataset: str) -> Call[Report]:
    return _get(f"{_dataset(dataset)}/report", as_json(Report.read))


def start_diagnosis(dataset: str, fields: Json, idempotency_key: str | None = None) -> Call[Json]:
    return _make(f"{_dataset(dataset)}/diagnosis", fields, idempotency_key)


def get_diagnosis(dataset: str) -> Call[Diagnosis]:
    return _get(f"{_dataset(dataset)}/diagnosis", as_json(Diagnosis.read))


def get_diagnosis_page(dataset: str) -> Call[str]:
    return _get(f"{_dataset(dataset)}/diagnosis", as_text).with_params(format="html")


def get_thumbnail(dataset: str, sha256: str) -> Call[bytes]:
    return _get(f"{_dataset(dataset)}/thumbnails/{_path(sha256)}", as_bytes)


def list_images(
    dataset: str, label: str | None = None, split: str | None = None, page_size: int | None = None
) -> Call[Page[DatasetImage]]:
    return _pages(f"{_dataset(dataset)}/images", DatasetImage, label=label, split=split, limit=page_size)


def revise_dataset(dataset: str, fields: Json) -> Call[Json]:
    return _make(f"{_dataset(dataset)}/revisions", fields)


def extend_dataset(dataset: str, form: Body, content_type: str) -> Call[Json]:
    """Revise it, with an archive of images to add."""
    headers = {"Content-Type": content_type, **_once()}
    request = Request("POST", f"{_dataset(dataset)}/revisions", {}, headers, content=form, timeout_s=SETTLING_S)
    return Call(request, as_json(as_it_is))


def list_revisions(dataset: str, page_size: int | None = None) -> Call[Page[Dataset]]:
    return _pages(f"{_dataset(dataset)}/revisions", Dataset, limit=page_size)


def delete_dataset(dataset: str) -> Call[None]:
    return _delete(_dataset(dataset))


def list_jobs(state: str | None = None, kind: str | None = None, page_size: int | None = None) -> Call[Page[Json]]:
    params = {"state": state, "kind": kind, "limit": page_size}
    return _get("/v1/jobs", as_page(as_it_is)).with_params(**_given(params))


def get_job(job: str) -> Call[Json]:
    return _get(_job(job), as_json(as_it_is))


def get_events(job: str, after: str = "", silence_s: float = SILENCE_S) -> Call[None]:
    """A stream of events, those after the one with that id; it is lost where nothing comes for `silence_s`."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
    request = Request("GET", f"{_job(job)}/events", headers=headers, timeout_s=silence_s)
    return Call(request, nothing)


def get_results(job: str, media_type: str, *, partial: bool = False, differing: bool = False) -> Call[None]:
    request = Request("GET", f"{_job(job)}/results", headers={"Accept": media_type})
    asked = {"partial": partial, "differing": differing}
    return Call(request, nothing).with_params(**{name: "true" for name, wanted in asked.items() if wanted})


def cancel_job(job: str, on_cancel: str | None = None) -> Call[Json]:
    body = {"on_cancel": on_cancel} if on_cancel else None
    return Call(Request("POST", f"{_job(job)}/cancel", json=body), as_json(as_it_is))


def list_webhooks(page_size: int | None = None) -> Call[Page[Webhook]]:
    return _pages("/v1/webhooks", Webhook, limit=page_size)


def create_webhook(fields: Json) -> Call[Webhook]:
    """Its secret is shown once, so that a lost answer is a webhook to delete."""
    return Call(Request("POST", "/v1/webhooks", json=fields), as_json(Webhook.read), is_repeatable=False)


def get_webhook(webhook: str) -> Call[Webhook]:
    return _get(_webhook(webhook), as_json(Webhook.read))


def change_webhook(webhook: str, fields: Json) -> Call[Webhook]:
    return Call(Request("PATCH", _webhook(webhook), json=fields), as_json(Webhook.read))


def delete_webhook(webhook: str) -> Call[None]:
    return _delete(_webhook(webhook))


def test_webhook(webhook: str) -> Call[WebhookTest]:
    request = Request("POST", f"{_webhook(webhook)}/test")
    return Call(request, as_json(WebhookTest.read), is_repeatable=False)


def list_deliveries(webhook: str, page_size: int | None = None) -> Call[Page[Delivery]]:
    return _pages(f"{_webhook(webhook)}/deliveries", Delivery, limit=page_size)


def list_architectures(search: str | None = None, page_size: int | None = None) -> Call[Page[Architecture]]:
    return _pages("/v1/architectures", Architecture, search=search, limit=page_size)


def get_architecture(name: str) -> Call[Architecture]:
    return _get(f"/v1/architectures/{quote(name, safe='/')}", as_json(Architecture.read))


def list_audit(
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    since: str | None = None,
    page_size: int | None = None,
) -> Call[Page[AuditEntry]]:
    return _pages(
        "/v1/audit", AuditEntry, actor=actor, action=action, subject=subject, since=since, limit=page_size
    )


def readiness_of(response: httpx.Response) -> Readiness:
    """Raises NotFoveasAnswer for another program's, which may have a `status` as well."""
    found = json_object(response)
    if not isinstance(found.get("status"), str):
        raise NotFoveasAnswer("its /readyz has no status")
    return Readiness.read(found)


def _get(path: str, parse: Any) -> Call[Any]:
    return Call(Request("GET", path), parse)


def _delete(path: str, *, force: bool = False) -> Call[None]:
    params = {"force": "true"} if force else {}
    return Call(Request("DELETE", path, params), nothing, is_deletion=True)


def _ask(path: str, images: Sequence[FormFile], params: Params) -> Call[Json]:
    request = Request("POST", path, _given(params), files=images)
    return Call(request, as_json(as_it_is), gives_up_at=frozenset({"too_many_in_flight"}))


def _make(path: str, fields: Json, idempotency_key: str | None = None) -> Call[Json]:
    return Call(Request("POST", path, headers=_once(idempotency_key), json=fields), as_json(as_it_is))


def _pages(path: str, kind: type[Record], **params: str | int | None) -> Call[Page[Any]]:
    return _get(path, as_page(kind.read)).with_params(**_given(params))


def _once(key: str | None = None) -> dict[str, str]:
    """So that a request that is sent again makes nothing again."""
    return {"Idempotency-Key": key or str(uuid.uuid4())}


def _given(params: Params) -> dict[str, str | int]:
    return {name: value for name, value in params.items() if value not in (None, "")}


def _classify(model: str) -> str:
    return f"{_model(model)}/classify"


def _explain(model: str) -> str:
    return f"{_model(model)}/explain"


def _model(model: str) -> str:
    return f"/v1/models/{_path(model)}"


def _version(model: str, version: int) -> str:
    return f"{_model(model)}/versions/{version}"


def _alias(model: str, alias: str) -> str:
    return f"{_model(model)}/aliases/{_path(alias)}"


def _dataset(dataset: str) -> str:
    return f"/v1/datasets/{_path(dataset)}"


def _job(job: str) -> str:
    return f"/v1/jobs/{_path(job)}"


def _webhook(webhook: str) -> str:
    return f"/v1/webhooks/{_path(webhook)}"


def _evaluation(job: str) -> str:
    return f"/v1/evaluations/{_path(job)}"


def _path(part: str) -> str:
    return quote(part, safe="@:")
