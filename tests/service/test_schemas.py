"""What is kept becomes what is answered, field by field, without a list of fields in between."""

from datetime import UTC, datetime

from service.schemas.datasets import DatasetDetail
from service.schemas.jobs import JobOut
from service.schemas.models import ModelOut, VersionDetail, VersionOut
from storage.database import migrate, open_database
from storage.datasets import DatasetRegistry
from storage.job_ledger import JobLedger
from storage.registry import ModelRegistry


def test_rows_become_answers(tmp_path) -> None:  # type: ignore[no-untyped-def]
    url = f"sqlite:///{tmp_path / 'fovea.db'}"
    migrate(url)
    database = open_database(url)
    try:
        manifest = {"architecture": "lenet5", "labels": ["0", "1"], "metrics": {"accuracy": 0.5}}
        registry = ModelRegistry(database)
        version = registry.add_version("digits", artifact="models/digits/1/", manifest=manifest, size_bytes=7)
        registry.set_alias("digits", "production", 1)
        version, model = registry.get_version("digits", 1), registry.get_model("digits")
        dataset = DatasetRegistry(database).add("photos", dataset_id="ds_1", prefix="datasets/ds_1")
        job = JobLedger(database).create("ingest", {"dataset": "ds_1"})
    finally:
        database.close()

    shown = VersionDetail.model_validate(version).model_dump()
    assert (shown["model"], shown["version"], shown["aliases"]) == ("digits", 1, ["production"])
    assert (shown["labels"], shown["manifest"], shown["size_bytes"]) == (["0", "1"], manifest, 7)
    assert ModelOut.model_validate(model).model_dump()["aliases"] == {"production": 1}
    found = DatasetDetail.model_validate(dataset).model_dump()
    assert (found["id"], found["name"], found["state"], found["labels"]) == ("ds_1", "photos", "checking", [])
    assert type(found["state"]) is str
    kept = JobOut.model_validate(job).model_dump()
    assert (kept["id"], kept["state"], kept["request"]) == (job.id, "queued", {"dataset": "ds_1"})
    assert type(kept["state"]) is str


def test_a_version_is_called_version_outside() -> None:
    """Inside it has a number; whoever gives the outer name is understood as well."""
    shown = VersionOut(
        model="m", version=3, aliases=[], architecture="a", labels=[], metrics={}, size_bytes=1, job_id=None,
        created_at=datetime.now(UTC),
    )  # fmt: skip
    assert "version" in VersionOut.model_json_schema(mode="serialization")["properties"]
    assert shown.model_dump()["version"] == 3
