"""`fovea finetune` and what follows it, against a real gateway, inference worker and training worker."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.colours import LABELS, picture
from support.command import Command, command_against
from support.stack import Stack

from cli.finetune import read_recipe_option
from fovea_client import Fovea, Job
from models.artifact import verify

LARGEST_UPLOAD = 2_000_000
LENET = ("--architecture", "lenet5", "--weights", "none")
ONE_EPOCH = ("--recipe", '{"epochs": 1, "batch_size": 256}')


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Gateway and inference worker; `trainer` adds the third."""
    limits = {"FOVEA_MAX_UPLOAD_BYTES": str(LARGEST_UPLOAD), "OMP_NUM_THREADS": "1"}
    service = Stack(tmp_path_factory.mktemp("stack"), limits)
    try:
        service.start()
        service.wait_until(lambda: service.workers() == 1, "a worker")
        yield service
    finally:
        service.stop()


@pytest.fixture
def fovea(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(stack.url, capsys, monkeypatch)


@pytest.fixture
def client(stack: Stack) -> Iterator[Fovea]:
    with stack.client() as client:
        yield client


def colours(folder: Path, seed: int) -> Path:
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for n in range(5):
            (folder / label / f"{n}.png").write_bytes(picture(label, noise=1000 * seed + n + 1))
    return folder


def finetunes(client: Fovea) -> list[Job]:
    return list(client.jobs.list(kind="finetune"))


# Without a training worker: what is asked for, and what is told before anything is learned.


def test_the_request_is_what_the_options_say(fovea: Command, client: Fovea, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"epochs": 3}')
    options = ["--strategy", "full", "--recipe", f"@{recipe}", "--seed", 7, "--promote", "if_better"]
    fraction = ["--validation-fraction", 0.3]
    said = fovea("finetune", "builtin:digits", "--model", "asked", *LENET, *options, *fraction, "--no-wait")
    assert said.code == 0
    job = client.jobs.get(said.out.split()[0])
    assert said.out == f"{job.id} is queued; watch it: fovea jobs watch {job.id}\n"
    expected = {
        "model": "asked",
        "dataset": "builtin:digits",
        "architecture": "lenet5",
        "weights": "none",
        "strategy": "full",
        "recipe": {"epochs": 3},
        "seed": 7,
        "promote": "if_better",
        "validation": {"fraction": 0.3},
    }
    assert {name: job.request[name] for name in expected} == expected
    assert fovea("jobs", "cancel", job.id).out == f"{job.id} is cancelled; it was waiting for a worker\n"


def test_what_is_odd_about_a_request_is_said_and_it_runs_all_the_same(fovea: Command, client: Fovea) -> None:
    said = fovea(
        "finetune", "builtin:digits", "--model", "odd", *LENET, "--strategy", "head", "--no-wait", "--json"
    )
    assert said.code == 0
    job = json.loads(said.out)
    assert job["warnings"]
    assert said.err == "".join(f"warning: {warning}\n" for warning in job["warnings"])
    client.jobs.get(job["id"]).cancel()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--strategy", "magic"), 2, "'magic' is not one of 'auto', 'head', 'partial', 'full'"),
        (("--promote", "maybe"), 2, "'maybe' is not one of 'never', 'if_better', 'always'"),
        (("--recipe", "{epochs}"), 2, "is not JSON"),
        (("--recipe", "@nowhere.json"), 2, "nowhere.json cannot be read: No such file"),
        (("--recipe", '{"epochs": 0}'), 1, "epochs"),
        (("--recipe", "grandmother"), 1, "grandmother"),
        (("--architecture", "lenet6"), 1, "lenet6"),
        (("--model", "Not A Name"), 1, "Not A Name"),
    ],
)
def test_a_mistake_is_told_before_a_folder_is_sent(
    fovea: Command, client: Fovea, tmp_path: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    folder = colours(tmp_path / "unsent", 1)
    said = fovea("finetune", folder, "--model", "m", *LENET, *options)
    assert said.code == code
    assert words in said.err
    assert "sending" not in said.err
    assert not list(client.datasets.list())


def test_what_is_neither_id_nor_file_is_not_asked_for(fovea: Command) -> None:
    missing = fovea("finetune", "./photos", "--model", "m", *LENET)
    assert (missing.code, missing.out) == (1, "")
    assert "./photos is no dataset's id, and there is no folder or archive of that name" in missing.err
    unknown = fovea("finetune", "ds_01NOWHERE", "--model", "m", *LENET)
    assert unknown.code == 1
    assert "404 unknown_dataset" in unknown.err


def test_an_upload_beyond_the_limit_is_refused_with_the_limit(fovea: Command, tmp_path: Path) -> None:
    large = tmp_path / "large.tar"
    with large.open("wb") as file:
        file.truncate(300_000_000)
    said = fovea("datasets", "create", large)
    assert said.code == 1
    assert "413 too_large" in said.err


def test_a_folder_is_sent_once_and_known_the_second_time(fovea: Command, client: Fovea, tmp_path: Path) -> None:
    folder = colours(tmp_path / "flags", 2)
    first = fovea("finetune", folder, "--model", "flags", *LENET, "--no-wait", "--json")
    job = json.loads(first.out)
    (dataset,) = client.datasets.list()
    assert job["request"]["dataset"] == dataset.id
    assert f"{dataset.id} is ready: 15 images, 3 classes" in first.err
    second = fovea("finetune", folder, "--model", "flags", *LENET, "--no-wait", "--json")
    assert json.loads(second.out)["request"]["dataset"] == dataset.id
    assert f"the same images are there already as {dataset.id} (flags)" in second.err
    for queued in (job, json.loads(second.out)):
        client.jobs.get(queued["id"]).cancel()


def test_a_refused_folder_is_not_learned(fovea: Command, client: Fovea, tmp_path: Path) -> None:
    before = len(finetunes(client))
    (tmp_path / "one" / "red").mkdir(parents=True)
    (tmp_path / "one" / "red" / "1.png").write_bytes(picture("red", noise=5))
    said = fovea("finetune", tmp_path / "one", "--model", "m", *LENET)
    assert said.code == 1
    assert re.search(r"dataset (ds_\w+) is refused: .+ All: fovea datasets report \1", said.err)
    assert len(finetunes(client)) == before


def test_ctrl_c_detaches_and_says_how_to_go_on(stack: Stack, client: Fovea) -> None:
    before = len(finetunes(client))
    command = [sys.executable, "-m", "cli.main", "finetune", "builtin:digits", "--model", "left", *LENET]
    environment = {**os.environ, "FOVEA_URL": stack.url}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        # Its first word on the job says that it is watching.
        assert process.stderr.readline() == "learning left: queued\n"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(20) == 130
    job, *_ = left = finetunes(client)
    assert len(left) == before + 1
    assert f"fovea jobs watch {job.id}" in said
    assert f"fovea jobs cancel {job.id}" in said
    assert "Traceback" not in said
    assert job.refresh().state == "queued"
    job.cancel()


@pytest.mark.slow
def test_watching_survives_a_restart_of_the_gateway(stack: Stack, client: Fovea) -> None:
    job = client.finetune(model="m", dataset="builtin:digits", architecture="lenet5", weights="none")
    seen: list[str] = []
    begun = threading.Event()

    def follow() -> None:
        with stack.client() as watcher:
            for found in watcher.jobs.get(job.id).follow(poll_s=0.1):
                seen.append(found.state)
                begun.set()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    assert begun.wait(10)
    stack.stop_process("gateway")
    stack.start_process("gateway")
    stack.wait_until(stack.alive, "the gateway to answer again")
    job.cancel()
    follower.join(15)
    assert not follower.is_alive()
    assert seen == ["queued", "cancelled"]


@pytest.mark.parametrize(
    ("text", "recipe"),
    [("default", "default"), ("alexnet-2012", "alexnet-2012"), (' {"epochs": 2}', {"epochs": 2})],
)
def test_a_recipe_is_a_name_or_an_object(text: str, recipe: object) -> None:
    assert read_recipe_option(text) == recipe


# With one.


@pytest.fixture(scope="module")
def trainer(stack: Stack) -> None:
    stack.start_process("training")
    stack.wait_until(lambda: stack.workers() == 2, "the training worker", timeout_s=60)


@pytest.mark.slow
@pytest.mark.usefixtures("trainer")
def test_digits_are_learned_and_the_next_steps_work(fovea: Command, client: Fovea, tmp_path: Path) -> None:
    said = fovea("finetune", "builtin:digits", "--model", "digits", *LENET, *ONE_EPOCH)
    assert said.code == 0, said.err
    assert re.search(r"^model +digits version 1$", said.out, re.MULTILINE)
    assert re.search(r"^accuracy +\d+\.\d %$", said.out, re.MULTILINE)
    assert re.search(r"^time +\d+:\d\d: starting \d+\.\d s, preparing \d+\.\d s, ", said.out, re.MULTILINE)
    assert re.search(r"^measured on +\d+ test images$", said.out, re.MULTILINE)
    assert re.search(r"^strategy +full: .+$", said.out, re.MULTILINE)
    for phase in ("preparing", "training", "exporting", "succeeded"):
        assert re.search(rf"^learning digits: {phase}", said.err, re.MULTILINE), said.err
    # The commands that it names are those that a user types next.
    assert "fovea classify FILE --model digits:1" in said.out
    image = tmp_path / "any.png"
    image.write_bytes(picture("red"))
    assert fovea("classify", image, "--model", "digits:1").code == 0
    assert "fovea models card digits 1 --output card.html" in said.out
    assert fovea("models", "card", "digits", 1, "--output", tmp_path / "card.html").code == 0
    assert (tmp_path / "card.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert fovea("models", "card", "digits").out.startswith("# ")
    assert "fovea models promote digits 1" in said.out
    assert fovea("models", "promote", "digits", 1).out == "digits@production is version 1\n"
    assert fovea("models", "download", "digits", "--output", tmp_path).code == 0
    with zipfile.ZipFile(tmp_path / "digits-1.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    assert list(verify(tmp_path / "unpacked").labels) == [str(digit) for digit in range(10)]


@pytest.mark.slow
@pytest.mark.usefixtures("trainer")
def test_json_is_a_line_for_each_change_and_a_failure_ends_with_1(fovea: Command, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"epochs": 1}')
    recipe = ("--recipe", f"@{tmp_path / 'recipe.json'}")
    said = fovea(
        "finetune", "builtin:digits", "--model", "d", "-a", "lenet5", "-w", "digits:99", *recipe, "--json"
    )
    assert (said.code, said.out) == (1, "")
    assert "404" in said.err
    done = fovea(
        "finetune", "builtin:digits", "--model", "again", *LENET, *ONE_EPOCH, "--promote", "always", "--json"
    )
    assert done.code == 0
    jobs = [json.loads(line) for line in done.out.splitlines()]
    assert jobs[-1]["state"] == "succeeded"
    assert jobs[-1]["result"]["promoted"]
    assert "training" in {job["progress"].get("phase") for job in jobs}
