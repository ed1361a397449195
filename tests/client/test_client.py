"""The whole client against a real gateway with a real inference worker, synchronous and asynchronous."""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.colours import LABELS, picture
from support.embedding import make_embedding_artifact
from support.faulty import Asked, Reply, faulty, problem
from support.model_files import onnx_file
from support.stack import Stack, running_stack
from support.waited import Connect

from fovea_client import (
    Conflict,
    DatasetRefused,
    InUse,
    InvalidImage,
    InvalidRequest,
    JobFailed,
    NotFound,
    Unauthorized,
)
from fovea_client.classification import IMAGES_AT_ONCE
from models.artifact import read_manifest
from storage.blobs import BlobStore
from workers.contract.diagnoses import PAGE, REPORT, diagnosis_key

LENET = {"dataset": "builtin:digits", "architecture": "lenet5", "weights": "none"}


@pytest.fixture
def sky(tmp_path: Path) -> Path:
    path = tmp_path / "sky.png"
    path.write_bytes(picture("blue"))
    return path


def pixels(colour: str) -> Any:
    with Image.open(io.BytesIO(picture(colour))) as image:
        return np.asarray(image)


# Classification


def test_an_image_may_be_given_in_every_form(fovea: Any, sky: Path) -> None:
    content = sky.read_bytes()
    grey = np.full((40, 48), 200, np.uint8)
    with sky.open("rb") as file, Image.open(sky) as image:
        given: list[Any] = [sky, str(sky), content, bytearray(content), memoryview(content), io.BytesIO(content)]
        given += [
            file,
            image,
            image.convert("CMYK"),
            image.convert("RGBA"),
            pixels("blue"),
            pixels("blue")[:, ::-1],
        ]
        each = [fovea.classify(one, model="colours") for one in given]
    assert [found.label for found in each] == ["blue"] * len(given)
    assert fovea.classify(grey, model="colours").probability == pytest.approx(1 / 3, abs=0.01)
    assert each[0].name == str(sky)
    assert (each[0].model, each[0].version, each[0].precision) == ("colours", 1, "float32")
    assert len(fovea.classify(sky, model="colours", top_k=2).classes) == 2


def test_a_model_a_version_and_a_reference_are_names_for_the_same(fovea: Any, sky: Path) -> None:
    names = ("colours:1", fovea.models.get("colours"), fovea.models.version("colours"))
    assert [fovea.classify(sky, model=name).version for name in names] == [1, 1, 1]


def test_a_list_keeps_its_order_whatever_the_requests_it_takes(fovea: Any, sky: Path) -> None:
    colours = [LABELS[number % 3] for number in range(3 * IMAGES_AT_ONCE + 5)]
    given: list[Any] = [picture(colour, noise=number + 1) for number, colour in enumerate(colours)]
    given[7] = sky
    colours[7] = "blue"
    found = fovea.classify(given, model="colours")
    assert [prediction.label for prediction in found] == colours
    assert fovea.classify([], model="colours") == []
    assert [one.label for one in fovea.classify((picture(c) for c in ("red", "green")), model="colours")] == [
        "red",
        "green",
    ]


def test_each_image_of_a_list_has_its_own_error(fovea: Any, sky: Path, tmp_path: Path) -> None:
    given = [sky, b"no image", picture("red")[:60], tmp_path / "nowhere.png", sky]
    first, text, torn, missing, last = fovea.classify(given, model="colours")
    assert (first.label, last.label) == ("blue", "blue")
    assert [found.error.code for found in (text, torn, missing)] == [
        "not_an_image",
        "image_unreadable",
        "unreadable_file",
    ]
    assert missing.name == str(tmp_path / "nowhere.png")
    with pytest.raises(Exception, match="not_an_image"):
        text.label  # noqa: B018
    # One that is alone in its request is no different.
    (alone,) = fovea.classify([b"no image"], model="colours")
    assert alone.error.code == "not_an_image"


def test_what_is_wrong_with_the_one_image_or_the_request_is_raised(fovea: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match="not_an_image"):
        fovea.classify(b"no image", model="colours")
    with pytest.raises(FileNotFoundError):
        fovea.classify(tmp_path / "nowhere.png", model="colours")
    for images in (picture("red"), [picture("red")], [picture("red")] * 3):
        with pytest.raises(NotFound, match="unknown_model"):
            fovea.classify(images, model="nothing")
    with pytest.raises(InvalidRequest) as failure:
        fovea.classify(picture("red"), model="colours", top_k=0)
    assert "top_k" in failure.value.errors[0]["field"]


@pytest.mark.parametrize("code", ["too_many_images", "too_many_in_flight"])
def test_a_server_that_takes_fewer_is_sent_fewer(connect: Connect, code: str) -> None:
    def taking_two(asked: Asked) -> Reply:
        images = asked.body.count(b"filename=")
        if images > 2:
            return problem(413, code) if code == "too_many_images" else problem(429, code, Retry_After="60")
        classes = [{"index": 0, "label": "red", "probability": 1.0}]
        predictions = [{"name": None, "classes": classes, "error": None}] * images
        return Reply(content={"model": "m", "version": 1, "predictions": predictions})

    with faulty(taking_two) as server:
        found = connect(server.url).classify([picture("red")] * 7, model="m")
    assert [prediction.label for prediction in found] == ["red"] * 7


def test_classification_may_be_left_to_a_job(fovea: Any, sky: Path) -> None:
    job = fovea.classify_later([sky, picture("red")], model="colours", top_k=1).wait(timeout_s=60)
    first, second = job.result["predictions"]
    assert (first["name"], first["classes"][0]["label"]) == ("sky.png", "blue")
    assert second["classes"][0]["label"] == "red"


def test_a_whole_folder_is_classified_by_a_job_that_has_a_line_for_each_image(fovea: Any, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, content in (("a.png", picture("red")), ("b.png", picture("blue")), ("c.txt", b"no picture")):
        (photos / name).write_bytes(content)
    dataset = fovea.datasets.create(photos, labels="none")
    assert dataset.labels == ()
    job = fovea.classify_many(model="colours", dataset=dataset, top_k=2).wait(timeout_s=60)
    a, b, c = job.results()
    assert [(seen.name, seen.label) for seen in (a, b)] == [("a.png", "red"), ("b.png", "blue")]
    assert (len(a.classes), c.error.code) == (2, "not_an_image")
    saved = job.save_results(tmp_path / "seen.csv")
    assert saved.read_text().splitlines()[0].startswith("path,label,probability,")
    lines = job.save_results(tmp_path / "seen.txt", form="jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["a.png", "b.png", "c.txt"]
    with pytest.raises(NotFound, match="no_results"):
        list(fovea.jobs.get(fovea.datasets.create(photos, name="again", wait=False).job_id).results())


@pytest.fixture(scope="module")
def hues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Fovea of its own, with a model `hues` whose second version takes red for green."""
    with running_stack(tmp_path_factory.mktemp("hues")) as service:
        service.publish("models/hues/1/", model="hues")
        service.publish("models/hues/2/", model="hues", labels=("green", "red", "blue"))
        yield service


def test_versions_are_measured_and_compared(hues: Stack, connect: Connect, tmp_path: Path) -> None:
    fovea = connect(hues.url)
    photos = tmp_path / "photos"
    for number, colour in enumerate(6 * LABELS):
        (photos / colour).mkdir(parents=True, exist_ok=True)
        (photos / colour / f"{number}.png").write_bytes(picture(colour, noise=number + 1))
    dataset = fovea.datasets.create(photos)
    second = fovea.models.version("hues", 2)
    job = fovea.evaluate(models=["hues:1", second], dataset=dataset, split="all").wait(timeout_s=60)
    found = job.evaluation()
    assert (found.job, found.dataset["id"], found.split) == (job.id, dataset.id, "all")
    assert [version.reference for version in found.versions] == ["hues:1", "hues:2"]
    assert found.versions[0].accuracy == 1.0 > found.versions[1].accuracy
    assert found.versions[0].classes[0]["support"] > 0
    (pair,) = found.comparisons
    assert (pair.first, pair.only_second) == ("hues:1", 0)
    assert pair.conclusion in job.card().replace("\\", "")
    assert job.card(form="html").lstrip().startswith("<!doctype html>")
    images = list(job.answers())
    assert len(images) == found.images
    assert {image.label for image in images} == {image.answers[0]["label"] for image in images}
    differing = list(job.answers(differing=True))
    assert len(differing) == found.differing_images < found.images
    assert "hues:2 label" in job.save_results(tmp_path / "differing.csv", differing=True).read_text()
    with pytest.raises(TypeError, match=r"answers\(\)"):
        list(job.results())
    alone = fovea.evaluate(models="hues:1", dataset=dataset).wait(timeout_s=60).evaluation()
    assert (len(alone.versions), alone.comparisons, alone.differing) == (1, (), ())


def test_a_dataset_is_diagnosed(hues: Stack, connect: Connect, tmp_path: Path) -> None:
    """Here no training worker does it: what it would write is put there."""
    fovea = connect(hues.url)
    make_embedding_artifact(tmp_path / "seeing")
    blobs = BlobStore(f"file://{hues.folder / 'blobs'}")
    blobs.put_folder("models/seeing/1", tmp_path / "seeing")
    with hues.registry() as registry:
        manifest = read_manifest(tmp_path / "seeing").to_dict()
        version = registry.add_version("seeing", artifact="models/seeing/1", manifest=manifest, size_bytes=1)
    photos = tmp_path / "photos"
    for number, colour in enumerate(2 * LABELS):
        (photos / colour).mkdir(parents=True, exist_ok=True)
        (photos / colour / f"{number}.png").write_bytes(picture(colour, noise=100 * (4 + version.number) + number))
    dataset = fovea.datasets.create(photos)
    job = fovea.datasets.diagnose(dataset, model=fovea.models.version("seeing", version.number))
    assert (job.kind, job.request["dataset"], job.request["version"]) == ("diagnose", dataset.id, version.number)
    job.cancel()
    with pytest.raises(NotFound, match="has no diagnosis yet"):
        fovea.datasets.diagnosis(dataset.id)
    with pytest.raises(InvalidRequest, match="gives no embedding"):
        fovea.datasets.diagnose(dataset, model="hues")
    part = {"total": 1, "checked": 6, "reason": None, "entries": [{"path": "red/0.png"}]}
    kinds = ("wrong_labels", "outliers", "near_duplicates", "without_influence", "overlapping_classes")
    report = {
        "dataset": {"id": dataset.id, "name": "photos", "content_hash": dataset.content_hash}, "model": "seeing",
        "version": 1, "created_at": "2026-11-27T04:00:00Z", "images": 6, "classes": 3, "warnings": ["a word"],
        "few_images": {"red": 2}, **dict.fromkeys(kinds, part),
    }  # fmt: skip
    blobs.put_bytes(diagnosis_key(dataset.id, REPORT), json.dumps(report).encode())
    blobs.put_bytes(diagnosis_key(dataset.id, PAGE), b"<!doctype html><title>photos</title>")
    found = fovea.datasets.diagnosis(dataset)
    assert (found.model, found.images, found.warnings) == ("seeing", 6, ("a word",))
    assert found.wrong_labels["entries"][0]["path"] == "red/0.png"
    assert fovea.datasets.diagnosis_page(dataset).startswith("<!doctype html>")


def test_a_file_may_have_any_name(fovea: Any, tmp_path: Path) -> None:
    names = ['a "quoted"\nname.png', os.fsdecode(b"\xff\xfe.png"), "日本.png"]
    for name in names:
        (tmp_path / name).write_bytes(picture("green"))
    found = fovea.classify([tmp_path / name for name in names], model="colours")
    assert [(Path(one.name).name, one.label) for one in found] == [(name, "green") for name in names]


def test_the_limits_of_a_real_gateway_are_found_out(connect: Connect, tmp_path: Path) -> None:
    limits = {"FOVEA_MAX_IMAGES": "4", "FOVEA_MAX_BODY_BYTES": "9000", "FOVEA_MAX_IMAGE_BYTES": "8000"}
    large = io.BytesIO()
    Image.effect_noise((100, 90), 80).save(large, "PNG")
    assert len(large.getvalue()) > 8000
    colours = [LABELS[number % 3] for number in range(21)]
    given = [picture(colour, noise=number + 1) for number, colour in enumerate(colours)]
    with running_stack(tmp_path, limits) as service:
        found = connect(service.url).classify([*given, large.getvalue()], model="colours")
    assert [one.label for one in found[:-1]] == colours
    assert found[-1].error.code == "too_large"


# Models


def test_models_and_versions_are_listed_shown_and_described(fovea: Any) -> None:
    assert "colours" in {model.name for model in fovea.models.list()}
    assert list(fovea.models.list(search="nothing-of-that-name")) == []
    model = fovea.models.get("colours")
    assert (model.versions, model.latest) == (1, 1)
    assert model.created_at.tzinfo is not None
    (version,) = fovea.models.versions("colours")
    assert version.labels == LABELS
    assert version.manifest == {}
    assert fovea.models.version("colours", 1).manifest["architecture"] == "colours"
    assert fovea.models.variants("colours").precisions == ("float32",)
    with pytest.raises(NotFound, match="unknown_card"):
        fovea.models.card("colours")


def test_an_alias_is_moved_and_moved_back(fovea: Any, stack: Stack) -> None:
    one, two = (stack.publish(f"models/shades/{number}/", "shades").number for number in (1, 2))
    assert fovea.models.promote("shades", one).aliases == {"production": one}
    assert fovea.models.promote("shades", two).aliases == {"production": two}
    assert fovea.models.alias("shades", "production").previous == one
    assert fovea.models.rollback("shades").aliases == {"production": one}
    assert fovea.models.set_alias("shades", "canary", two).aliases["canary"] == two
    fovea.models.delete_alias("shades", "canary")
    with pytest.raises(InUse):
        fovea.models.delete("shades", one)
    fovea.models.delete("shades", two)
    fovea.models.delete("shades", force=True)
    with pytest.raises(NotFound):
        fovea.models.get("shades")


def test_a_version_is_downloaded_whole_or_not_at_all(fovea: Any, tmp_path: Path) -> None:
    seen: list[int] = []
    target = fovea.models.download("colours", to=tmp_path, progress=seen.append)
    assert target == tmp_path / "colours-1.zip"
    assert seen[-1] == target.stat().st_size
    with zipfile.ZipFile(target) as archive:
        assert {"model.onnx", "manifest.json"} <= set(archive.namelist())
    assert b"".join(fovea.models.artifact("colours", 1)).startswith(b"PK")
    with pytest.raises(NotFound):
        fovea.models.download("colours", 7, tmp_path / "seven.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["colours-1.zip"]


# Jobs, as far as no training worker is needed


def test_a_fine_tune_is_asked_for_once_with_one_key(fovea: Any) -> None:
    first = fovea.finetune(model="once", **LENET, idempotency_key="a-key")
    assert fovea.finetune(model="once", **LENET, idempotency_key="a-key").id == first.id
    assert first.request["architecture"] == "lenet5"
    first.cancel()
    odd = fovea.finetune(model="odd", **LENET, strategy="head")
    assert "strategy" in odd.warnings[0]
    odd.cancel()


def test_a_publication_and_variants_are_jobs(fovea: Any) -> None:
    with pytest.raises(NotFound, match="unknown_weights"):
        fovea.models.publish("zoo", architecture="lenet5", weights="nowhere")
    job = fovea.models.try_variants("colours", dataset="builtin:digits")
    assert (job.kind, job.request["version"]) == ("variants", 1)
    job.cancel()


def test_a_model_file_is_sent_with_what_is_said_of_it(fovea: Any, tmp_path: Path) -> None:
    (tmp_path / 'a "net".onnx').write_bytes(onnx_file() + bytes(3 * 2**20))
    seen: list[Any] = []
    job = fovea.models.upload(
        "sent",
        tmp_path / 'a "net".onnx',
        labels=("ant", "bee", "crane"),
        preprocessing={"mean": [0.5] * 3, "std": [0.5] * 3},
        promote="never",
        progress=seen.append,
    )
    assert (job.kind, job.request["architecture"], job.request["promote"]) == ("publish", "onnx", "never")
    upload = job.request["upload"]
    assert (upload["name"], upload["labels"]) == ("a _net_.onnx", ["ant", "bee", "crane"])
    assert upload["size_bytes"] == (tmp_path / 'a "net".onnx').stat().st_size == seen[-1].done == seen[-1].total
    job.cancel()
    with pytest.raises(InvalidRequest, match=r"options\.architecture"):
        fovea.models.upload("sent", tmp_path / 'a "net".onnx', architecture="lenet5")
    with pytest.raises(FileNotFoundError):
        fovea.models.upload("sent", tmp_path / "absent.onnx")


def test_jobs_are_listed_over_all_pages(fovea: Any) -> None:
    made = [fovea.finetune(model="many", **LENET).id for _ in range(5)]
    listed = [job.id for job in fovea.jobs.list(state="queued", kind="finetune", page_size=2)]
    assert listed[:5] == made[::-1]
    for job in made:
        fovea.jobs.get(job).cancel()


# Datasets


@pytest.fixture
def photographs(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    seed = 1000 * (1 + abs(hash(request.node.name)) % 1000)
    for place, label in enumerate(LABELS):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(5):
            image = picture(label, noise=seed + 10 * place + number)
            (tmp_path / "photos" / label / f"{number}.png").write_bytes(image)
    return tmp_path / "photos"


def test_a_folder_becomes_a_dataset_that_can_be_learned(fovea: Any, photographs: Path) -> None:
    (photographs / "red" / "broken.png").write_bytes(b"no image")
    (photographs / ".DS_Store").write_bytes(b"litter")
    seen: list[Any] = []
    dataset = fovea.datasets.create(photographs, progress=seen.append)
    assert (dataset.name, dataset.state, set(dataset.labels)) == ("photos", "ready", set(LABELS))
    assert list(dict.fromkeys(step.phase for step in seen))[:2] == ["packing", "sending"]
    sent = [step for step in seen if step.phase == "sending"]
    assert sent[-1].done == sent[-1].total
    report = fovea.datasets.report(dataset.id)
    assert (report.images, report.faults_by_code["not_an_image"]) == (15, 1)
    assert "red/broken.png" in {fault.get("file") for fault in report.faults}
    job = fovea.finetune(model="photos", dataset=dataset, architecture="lenet5", weights="none")
    assert job.request["dataset"] == dataset.id
    with pytest.raises(InUse):
        fovea.datasets.delete(dataset.id)
    job.cancel()
    # The same images again are the same dataset.
    assert fovea.datasets.create(photographs, name="again").id == dataset.id
    assert dataset.id in {found.id for found in fovea.datasets.list(search="photos")}
    fovea.datasets.delete(dataset.id)
    with pytest.raises(NotFound):
        fovea.datasets.get(dataset.id)


def test_a_refused_dataset_says_why_with_its_report(fovea: Any, photographs: Path) -> None:
    (photographs / "red" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DatasetRefused) as failure:
        fovea.datasets.create(photographs, on_fault="refuse")
    assert failure.value.dataset.state == "refused"
    assert failure.value.report.refusals
    assert failure.value.report.refusals[0] in str(failure.value)


def test_a_dataset_is_corrected_and_its_family_listed(fovea: Any, photographs: Path, tmp_path: Path) -> None:
    first = fovea.datasets.create(photographs)
    more = tmp_path / "more" / "red"
    more.mkdir(parents=True)
    (more / "new.png").write_bytes(picture("red", noise=int.from_bytes(os.urandom(3))))
    seen: list[Any] = []
    second = fovea.datasets.revise(
        first.id,
        relabel={"red/0.png": "blue"},
        remove=["red/1.png"],
        add=more.parent,
        name="mended",
        base_content_hash=first.content_hash,
        progress=seen.append,
    )
    assert (second.state, second.name, second.parent, second.revision) == ("ready", "mended", first.id, 2)
    assert {"packing", "sending"} <= {step.phase for step in seen}
    report = fovea.datasets.report(second.id)
    assert report.revision
    assert (report.images, report.revision["added"], report.revision["removed"]) == (15, {"red": 1}, {"red": 1})
    assert [found.id for found in fovea.datasets.revisions(first.id)] == [second.id, first.id]
    again = fovea.datasets.revise(second.id, relabel={"red/2.png": "red"}, wait=False)
    assert (again.state, again.revision) == ("checking", 3)
    assert fovea.jobs.get(again.job_id).wait().result["dataset"] == second.id
    with pytest.raises(DatasetRefused, match=r"no image of that sha256 or path"):
        fovea.datasets.revise(second.id, remove=["red/77.png"])
    with pytest.raises(Conflict):
        fovea.datasets.revise(second.id, remove=["red/2.png"], base_content_hash=first.content_hash)
    fovea.datasets.delete(first.id)
    assert {found.id for found in fovea.datasets.revisions(second.id) if found.state == "ready"} == {second.id}


def test_what_is_no_archive_is_refused_before_or_after_it_is_sent(fovea: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no files"):
        fovea.datasets.create(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        fovea.datasets.create(tmp_path / "nowhere.zip")
    with pytest.raises(InvalidRequest, match="unsupported_media_type"):
        fovea.datasets.create(b"nothing of the kind")
    with pytest.raises((JobFailed, DatasetRefused)):
        fovea.datasets.create(io.BytesIO(b"PK\x03\x04 but no more"))


# The rest


def test_the_zoo_can_be_searched(fovea: Any) -> None:
    assert "resnet18" in {found.name for found in fovea.architectures.list(search="resnet 2015")}
    found = fovea.architectures.get("resnet18")
    assert (found.family, found.year) == ("ResNet", 2015)
    assert found.layers
    timm = next(one for one in fovea.architectures.list(search="timm repvgg") if one.source == "timm")
    assert fovea.architectures.get(timm.name).name == timm.name


def test_it_says_how_it_is(fovea: Any) -> None:
    found = fovea.readiness()
    assert not found.is_ready
    assert found.missing == ("training",)
    assert found.database.ok
    assert found.workers[0].providers == ("CPUExecutionProvider",)
    assert fovea.is_alive()
    assert "fovea_requests_total" in fovea.metrics()


def test_who_did_what_is_listed(fovea: Any) -> None:
    fovea.models.set_alias("colours", "audited", 1)
    fovea.models.delete_alias("colours", "audited")
    since = datetime.now(UTC) - timedelta(hours=1)
    entries = list(fovea.audit(subject="colours", action="alias", since=since))
    assert [entry.action for entry in entries][:2] == ["alias.delete", "alias.set"]
    assert entries[0].detail["alias"] == "audited"


def test_who_needs_a_key_is_told_where_to_give_it(connect: Connect, tmp_path: Path) -> None:
    service = Stack(tmp_path, {"FOVEA_HOST": "0.0.0.0"})
    try:
        service.prepare()
        key = service.make_key("classify")
        service.start("gateway")
        with pytest.raises(Unauthorized, match=r"give it with key=, or in the variable FOVEA_KEY"):
            list(connect(service.url).models.list())
        with pytest.raises(Unauthorized, match="does not take this API key"):
            list(connect(service.url, key + "x").models.list())
        assert list(connect(service.url, key).models.list()) == []
    finally:
        service.stop()
