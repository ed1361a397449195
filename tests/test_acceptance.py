"""What the service promises of its accuracy, with real published weights and photographs, through the REST API."""

import hashlib
import json
import statistics
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from scipy.stats import binomtest
from support.load import Load, send_all
from support.stack import Stack

pytestmark = pytest.mark.data

ARCHITECTURE = "mobilenet_v1_025"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Iterator[Stack]:
    service = Stack(tmp_path_factory.mktemp("acceptance"), {"FOVEA_WEIGHTS_DIR": str(test_data / "weights")})
    try:
        service.start("gateway", "inference", "training")
        service.wait_until(lambda: service.workers() == 2, "the workers")
        yield service
    finally:
        service.stop()


@pytest.mark.slow
def test_published_mobilenet_names_61_of_100_photographs_first_and_81_among_five(
    service: Stack, test_data: Path
) -> None:
    ended(service, post(service, "/v1/models/imagenet/versions", architecture=ARCHITECTURE, weights="imagenet"))
    expected = {path: int(path.name[:3]) for path in sorted((test_data / "imagenet/samples").glob("*.JPEG"))}
    assert len(expected) == 100
    first = among_five = 0
    with httpx.Client(timeout=30) as client:
        for path, index in expected.items():
            answer = client.post(
                f"{service.url}/v1/models/imagenet/classify",
                content=path.read_bytes(),
                headers={"content-type": "image/jpeg"},
            )
            (prediction,) = answer.json()["predictions"]
            found = [scored["index"] for scored in prediction["classes"]]
            first += found[0] == index
            among_five += index in found
    assert abs(first - 61) <= 1
    assert abs(among_five - 81) <= 1


@pytest.fixture(scope="module")
def ants_and_bees(service: Stack, test_data: Path) -> str:
    """The dataset's id, uploaded as it was found."""
    archive = (test_data / "hymenoptera.zip").read_bytes()
    accepted = httpx.post(f"{service.url}/v1/datasets?name=ants-bees", content=archive, timeout=60).json()
    ended(service, accepted["job"])
    return str(accepted["id"])


@pytest.fixture(scope="module")
def learnt(service: Stack, ants_and_bees: str) -> list[dict[str, Any]]:
    """Three fine-tunes with the default recipe, one for each seed; they are versions 1 to 3."""
    return [finetuned(service, ants_and_bees, seed=seed, strategy="auto") for seed in (0, 1, 2)]


@pytest.mark.slow
def test_broken_names_and_files_are_in_the_report_and_not_in_the_way(service: Stack, ants_and_bees: str) -> None:
    report = httpx.get(f"{service.url}/v1/datasets/{ants_and_bees}/report").json()
    assert report["images"] == 398
    assert {(fault["code"], fault["file"].rpartition("/")[2]) for fault in report["faults"]} == {
        ("odd_name", "ant photos.jpg"),
        ("odd_name", "F.pergan.28(f).jpg"),
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ants_and_bees_are_told_apart_by_the_default_recipe(learnt: list[dict[str, Any]]) -> None:
    for job in learnt:
        assert job["result"]["strategy"]["strategy"] == "head"
        assert job["result"]["metrics"]["images"] == 153
    accuracies = [job["result"]["metrics"]["accuracy"] for job in learnt]
    assert statistics.median(accuracies) >= 0.88, accuracies


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_nearest_training_images_are_mostly_of_the_images_class(
    service: Stack, ants_and_bees: str, learnt: list[dict[str, Any]], test_data: Path
) -> None:
    """Nearly as often as the classifier is right, and as often as the finding of the fine-tune says."""
    listed = f"{service.url}/v1/datasets/{ants_and_bees}/images?split=val&limit=200"
    images = httpx.get(listed).json()["items"]
    right = 0
    with zipfile.ZipFile(test_data / "hymenoptera.zip") as archive:
        content = {hashlib.sha256(data).hexdigest(): data for data in map(archive.read, archive.namelist())}
    for start in range(0, len(images), 32):
        asked = images[start : start + 32]
        files = [("file", (str(n), content[image["sha256"]])) for n, image in enumerate(asked)]
        url = f"{service.url}/v1/models/ants-bees:1/similar?k=5&precision=float32"
        found = httpx.post(url, files=files, timeout=60).json()["predictions"]
        for image, prediction in zip(asked, found, strict=True):
            labels = [near["label"] for near in prediction["similar"]]
            right += max(labels, key=labels.count) == image["label"]
            assert all("/train/" in f"/{near['name']}" for near in prediction["similar"])
    share = right / len(images)
    assert (len(images), share >= 0.84) == (153, True), share
    assert share > learnt[0]["result"]["metrics"]["accuracy"] - 0.06
    version = httpx.get(f"{service.url}/v1/models/ants-bees/versions/1").json()
    assert version["manifest"]["findings"]["neighbours"]["majority_accuracy"] == pytest.approx(share, abs=0.014)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_photographs_of_neither_ants_nor_bees_are_told_from_those_of_both(
    service: Stack, learnt: list[dict[str, Any]], test_data: Path
) -> None:
    """Of one version: what is read is the backbone's, which is the same in all three."""
    neither = [path.read_bytes() for path in sorted((test_data / "imagenet/samples").glob("*.JPEG"))]
    either = bees_and_ants(test_data / "hymenoptera.zip")
    assert (len(neither), len(either)) == (100, 153)
    job = learnt[0]["result"]
    known, foreign = (unknown(service, f"ants-bees:{job['version']}", found) for found in (either, neither))
    assert auroc([one["score"] for one in known], [one["score"] for one in foreign]) >= 0.93
    assert statistics.mean(one["is_unknown"] for one in known) <= 0.07
    assert statistics.mean(one["is_unknown"] for one in foreign) >= 0.6
    version = httpx.get(f"{service.url}/v1/models/ants-bees/versions/{job['version']}").json()
    facts = version["manifest"]["findings"]["unknown"]
    assert (facts["threshold_images"], facts["false_alarm_rate"]) == (153, 0.05)
    card = httpx.get(f"{service.url}/v1/models/ants-bees/versions/{job['version']}/card?format=md").text
    assert f"{facts['threshold']:.4g} the image counts as unknown" in card


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_weights_it_is_far_below_and_the_card_shows_both(
    service: Stack, ants_and_bees: str, learnt: list[dict[str, Any]]
) -> None:
    accuracies = [job["result"]["metrics"]["accuracy"] for job in learnt]
    recipe = {"epochs": 3, "warmup_epochs": 0}
    scratch = finetuned(service, ants_and_bees, weights="none", recipe=recipe)["result"]
    assert scratch["metrics"]["accuracy"] < statistics.median(accuracies) - 0.1
    card = httpx.get(f"{service.url}/v1/models/ants-bees/versions/{scratch['version']}/card?format=md").text
    assert f"| version 1 | {ARCHITECTURE} | imagenet | {100 * accuracies[0]:.1f} % |" in card
    assert f"| this one | {ARCHITECTURE} | no weights | {100 * scratch['metrics']['accuracy']:.1f} % |" in card


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_promoting_and_rolling_back_under_half_the_machines_load_drops_and_mixes_nothing(
    service: Stack, learnt: list[dict[str, Any]], test_data: Path
) -> None:
    photographs = bees_and_ants(test_data / "hymenoptera.zip", 8)
    promote(service, 1)
    alone = {version: answers(service, f"ants-bees:{version}", photographs) for version in (1, 2)}
    assert alone[1] != alone[2]

    path = "/v1/models/ants-bees@production/classify"
    started = time.monotonic()
    send_all(service.port, path, photographs, requests=200, at_once=8, content_type="image/jpeg")
    per_second = 0.5 * 200 / (time.monotonic() - started)
    with Load(
        service.port, path, photographs, at_once=8, content_type="image/jpeg", per_second=per_second
    ) as load:
        for version in (2, 1, 2, 1, 2, 1):
            promote(service, version)
            moved_at = len(load.replies)

            def is_served(version: int = version, since: int = moved_at) -> bool:
                served = [reply.body.get("version") for reply in load.replies[since:]]
                return served.count(version) >= 50

            service.wait_until(is_served, f"version {version} to be served")

    assert len(load.replies) == load.sent
    assert {reply.status for reply in load.replies} == {200}
    for reply in load.replies:
        classes = reply.body["predictions"][0]["classes"]
        assert [scored["label"] for scored in classes] == [
            label for label, _ in alone[reply.body["version"]][reply.request % len(photographs)]
        ]
        for scored, (_, probability) in zip(
            classes, alone[reply.body["version"]][reply.request % len(photographs)], strict=True
        ):
            assert scored["probability"] == pytest.approx(probability, abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_versions_are_measured_again_as_their_fine_tunes_did_and_compared(
    service: Stack, ants_and_bees: str, learnt: list[dict[str, Any]]
) -> None:
    models = [f"ants-bees:{job['result']['version']}" for job in learnt[:2]]
    asked = {"models": models, "dataset": ants_and_bees, "split": "validation", "precision": "float32"}
    job = ended(service, post(service, "/v1/evaluations", **asked))
    report = httpx.get(f"{service.url}/v1/evaluations/{job['id']}").json()
    assert report["images"] == 153
    for version, taught in zip(report["versions"], learnt, strict=False):
        metrics = taught["result"]["metrics"]
        assert version["accuracy"] == pytest.approx(metrics["accuracy"], abs=1e-9)
        assert version["loss"] == pytest.approx(metrics["loss"], abs=1e-3)
        assert version["calibration_error"] == pytest.approx(metrics["calibration_error"], abs=2e-3)
        assert (version["seen_images"], version["seen_share"]) == (0, 0)
    (pair,) = report["comparisons"]
    lines = httpx.get(f"{service.url}/v1/jobs/{job['id']}/results").text.splitlines()
    right = [[a["label"] == line["label"] for a in line["answers"]] for line in map(json.loads, lines)]
    assert (pair["only_first"], pair["only_second"]) == (right.count([True, False]), right.count([False, True]))
    differing = pair["only_first"] + pair["only_second"]
    assert pair["p_value"] == pytest.approx(binomtest(pair["only_first"], differing).pvalue)
    seen = ended(service, post(service, "/v1/evaluations", **{**asked, "split": "train"}))["result"]
    assert [version["seen_share"] for version in seen["versions"]] == [1, 1]
    unseen = ended(service, post(service, "/v1/evaluations", **{**asked, "split": "unseen"}))["result"]
    assert [score["accuracy"] for score in unseen["versions"]] == [v["accuracy"] for v in report["versions"]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_variant_of_it_passes_the_gate_or_is_refused_with_the_numbers(
    service: Stack, ants_and_bees: str, learnt: list[dict[str, Any]]
) -> None:
    """Last, for what answers from then on may be the variant."""
    version = learnt[0]["result"]["version"]
    path = f"/v1/models/ants-bees/versions/{version}"
    before = httpx.get(service.url + path).json()
    job = ended(service, post(service, f"{path}/variants", dataset=ants_and_bees, precisions=["int8"]), 700)
    report = httpx.get(f"{service.url}{path}/variants").json()["variants"]["int8"]
    assert report == job["result"]["variants"]["int8"]
    assert (job["result"]["calibrated_on"], report["images"]) == (128, 153)
    assert report["passed"] == (report["reason"] is None)
    assert None not in (report["accuracy"], report["difference_interval"], report["agreement"])
    after = httpx.get(service.url + path).json()
    assert after["metrics"] == before["metrics"]
    files = after["manifest"]["files"]
    assert files["model.onnx"] == before["manifest"]["files"]["model.onnx"]
    assert ("model.int8.onnx" in files) == report["passed"]
    if report["passed"]:
        assert report["agreement"] >= 0.98
        assert report["speedup"] > 1


def bees_and_ants(archive: Path, count: int | None = None) -> list[bytes]:
    """All that validate, or so many of them."""
    with zipfile.ZipFile(archive) as members:
        names = [name for name in sorted(members.namelist()) if name.startswith("val/") and name.endswith(".jpg")]
        chosen = names[:: len(names) // count][:count] if count else names
        return [members.read(name) for name in chosen]


def unknown(service: Stack, model: str, photographs: list[bytes]) -> list[dict[str, Any]]:
    """What the answer to each says of how foreign it is."""
    url, said = f"{service.url}/v1/models/{model}/classify", []
    with httpx.Client(timeout=30) as client:
        for photograph in photographs:
            answer = client.post(url, content=photograph, headers={"content-type": "image/jpeg"})
            (prediction,) = answer.json()["predictions"]
            said.append(prediction["unknown"])
    return said


def auroc(known: list[float], foreign: list[float]) -> float:
    """How often a foreign image has the higher score."""
    return statistics.mean((b > a) + (a == b) / 2 for a in known for b in foreign)


def answers(service: Stack, model: str, photographs: list[bytes]) -> list[list[tuple[str, float]]]:
    """For each photograph labels and probabilities, when nothing else is asked."""
    url = f"{service.url}/v1/models/{model}/classify"
    said = (httpx.post(url, content=p, headers={"content-type": "image/jpeg"}).json() for p in photographs)
    return [[(c["label"], c["probability"]) for c in answer["predictions"][0]["classes"]] for answer in said]


def promote(service: Stack, version: int) -> None:
    url = f"{service.url}/v1/models/ants-bees/aliases/production"
    assert httpx.put(url, json={"version": version}, timeout=20).status_code == 200


def finetuned(service: Stack, dataset: str, **fields: Any) -> dict[str, Any]:
    what = {"architecture": ARCHITECTURE, "variants": "none"}
    request = {"model": "ants-bees", "dataset": dataset, **what, **fields}
    return ended(service, post(service, "/v1/finetunes", **request))


def post(service: Stack, path: str, **fields: Any) -> dict[str, Any]:
    accepted = httpx.post(service.url + path, json=fields)
    assert accepted.status_code == 202, accepted.text
    job: dict[str, Any] = accepted.json()
    return job


def ended(service: Stack, job: dict[str, Any], within_s: float = 180) -> dict[str, Any]:
    """The job as it is in the end, which has to be success."""
    url = f"{service.url}/v1/jobs/{job['id']}"
    service.wait_until(lambda: httpx.get(url).json()["state"] not in ("queued", "running"), "the job", within_s)
    found: dict[str, Any] = httpx.get(url).json()
    assert found["state"] == "succeeded", found
    return found
