"""Gateway and workers as on hosts of their own, which share PostgreSQL, S3 and Redis and no file."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from support.colours import LABELS, picture
from support.fleet import Fleet, archive_of
from support.postgres import PostgresServer
from support.redis import RedisServer
from support.s3 import S3Server

from storage.database import migrate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FINETUNE = {"model": "colours", "architecture": "lenet5", "weights": "none", "strategy": "full"}
RECIPE = {"batch_size": 8, "patience": None, "augmentation": {"crop": "centre", "mirror": False}}


@pytest.fixture
def fleet(
    tmp_path: Path, postgres: PostgresServer, s3_server: S3Server, redis_server: RedisServer
) -> Iterator[Fleet]:
    name = f"fleet_{uuid4().hex[:12]}"
    postgres.run(f"CREATE DATABASE {name}")
    migrate(postgres.url(name))
    shared = {
        "FOVEA_DATABASE_URL": postgres.url(name),
        "FOVEA_BLOBS_URL": s3_server.make_bucket(),
        "FOVEA_BROKER_URL": redis_server.url,
        "FOVEA_LEASE_S": "3",
        **s3_server.environment,
    }
    fleet = Fleet(tmp_path, shared)
    try:
        yield fleet
    finally:
        fleet.stop()
        postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


def pictures(per_class: int) -> dict[str, bytes]:
    return {
        f"{colour}/{number}.png": picture(colour, noise=1 + number + 1000 * place)
        for place, colour in enumerate(LABELS)
        for number in range(per_class)
    }


def upload(fleet: Fleet, per_class: int) -> str:
    """The id of a dataset that is ready."""
    accepted = fleet.post("/v1/datasets?name=colours", content=archive_of(pictures(per_class)))
    result = fleet.ended(accepted["job"])["result"]
    assert result["images"] == per_class * len(LABELS)
    return str(accepted["id"])


def test_a_dataset_is_learnt_and_served_by_hosts_that_share_three_urls(fleet: Fleet) -> None:
    gateway, inference, training = (fleet.add(role) for role in ("gateway", "inference", "training"))
    fleet.wait_until(lambda: fleet.workers() == 2, "the workers")
    dataset = upload(fleet, per_class=20)
    recipe = {**RECIPE, "epochs": 6}
    finetune = fleet.post("/v1/finetunes", json={**FINETUNE, "dataset": dataset, "recipe": recipe})
    assert fleet.ended(finetune)["result"]["version"] == 1

    for colour in LABELS:
        answer = fleet.post(
            "/v1/models/colours/classify",
            content=picture(colour, noise=777),
            headers={"content-type": "image/png"},
        )
        assert answer["predictions"][0]["classes"][0]["label"] == colour
    # What one host holds of another has come through the store, and nothing else was left behind.
    cached = {
        host.role: {p.name for p in host.folder.glob("data/cache/blobs/*") if p.is_dir()} for host in fleet.hosts
    }
    assert [len(cached[role]) for role in ("gateway", "inference", "training")] == [0, 1, 1]
    assert [path for path in (gateway.folder / "data").rglob("*") if path.is_file()] == []
    assert list((training.folder / "data" / "work").glob("*")) == []
    for kind in ("model", "card", "artifact"):
        path = {"model": "", "card": "/card", "artifact": "/artifact"}[kind]
        assert httpx.get(f"{fleet.url}/v1/models/colours/versions/1{path}", timeout=30).status_code == 200

    # A host that joins later needs nothing but the same URLs.
    inference.stop()
    fleet.add("inference")
    fleet.wait_until(lambda: fleet.workers() == 2, "the new worker")
    body = {"content": picture("blue", noise=778), "headers": {"content-type": "image/png"}}
    answer = fleet.post("/v1/models/colours/classify", **body)
    assert answer["predictions"][0]["classes"][0]["label"] == "blue"

    # Variants of it: the version has other files then, and nobody notices.
    asked = fleet.post("/v1/models/colours/versions/1/variants", json={"dataset": dataset, "precisions": ["int8"]})
    tried = fleet.ended(asked)["result"]["variants"]["int8"]
    assert "at least 50" in tried["reason"]
    listed = httpx.get(f"{fleet.url}/v1/models/colours/versions/1/variants", timeout=30).json()
    assert listed["variants"]["int8"] == tried
    again = fleet.post("/v1/models/colours/classify", **body)
    assert again["predictions"][0]["classes"] == answer["predictions"][0]["classes"]
    assert list((training.folder / "data" / "work").glob("*")) == []


def test_a_training_whose_host_is_lost_goes_on_from_its_checkpoint_on_another(fleet: Fleet) -> None:
    fleet.add("gateway")
    fleet.add("inference")
    lost = fleet.add("training")
    fleet.wait_until(lambda: fleet.workers() == 2, "the workers")
    dataset = upload(fleet, per_class=20)
    recipe = {**RECIPE, "epochs": 40}
    finetune = fleet.post("/v1/finetunes", json={**FINETUNE, "dataset": dataset, "recipe": recipe})
    fleet.wait_until(lambda: fleet.job(finetune)["progress"].get("epoch", 0) >= 3, "the third epoch")
    lost.kill()
    other = fleet.add("training")

    ended = fleet.ended(finetune, 180)
    assert ended["attempt"] == 2
    assert "checkpoint.fetched" in other.log
    assert "checkpoint.fetched" not in lost.log
