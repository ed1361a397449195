"""Every command and every Python program that the pages print does what they say, typed as it stands there.

The lists are exact: what is added to a page belongs into one of them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from support.colours import LABELS, picture
from support.model_files import onnx_file
from support.pages import ROOT, Page, pages
from support.printed import Playground, Printed, arguments_of, place_deployment_files, printed_commands
from support.stack import Stack

# What each command has to print, by its words, in an order in which each finds what it needs.
QUICK = {
    # README.md and docs/deploy.md: a deployment's secrets, and what is called with them
    "sh docker/init.sh": r"wrote +secrets/admin_key",
    "export FOVEA_KEY=$(cat secrets/admin_key)": "",
    "curl -H Authorization: Bearer $FOVEA_KEY -H Content-Type: application/json "
    'http://127.0.0.1:8000/v1/finetunes -d {"model": "digits", "dataset": "builtin:digits", '
    '"architecture": "lenet5", "weights": "none"}': r'"kind":"finetune","state":"queued"',
    "curl -H Authorization: Bearer $(cat secrets/admin_key) http://127.0.0.1:8000/v1/models": r'"name":"digits"',
    # README.md: first calls
    "curl -s -H Content-Type: image/png --data-binary @data/samples/digit-7-0.png "
    "http://127.0.0.1:8000/v1/models/digits/classify?top_k=3": r'"label":"red"',
    # docs/protocol.md
    "curl -s -H Inference-Header-Content-Length: 0 --data-binary @data/samples/digit-7-0.png "
    "http://127.0.0.1:8000/v2/models/digits/infer": r'"model_name":"digits"',
    "curl -s -F file=@data/samples/digit-0-0.png -F file=@data/samples/digit-7-0.png "
    "http://127.0.0.1:8000/v1/models/digits/classify": r'"label":"green".*"label":"red"',
    'curl -s -H Content-Type: application/json -d {"architecture": "resnet18", "weights": "imagenet"} '
    "http://127.0.0.1:8000/v1/models/imagenet/versions": r'"kind":"publish","state":"queued"',
    "fovea classify photos/ --model mine --csv out.csv": r"out\.csv: 15 images by mine version \d",
    "fovea jobs list": "publish",
    "fovea architectures list mobilenet": "mobilenet_v2",
    # docs/api.md
    "curl --data-binary @november.zip http://127.0.0.1:8000/v1/datasets?name=november&labels=none": (
        r'"labels":"none"'
    ),
    "curl -H Content-Type: application/json http://127.0.0.1:8000/v1/classifications "
    '-d {"model": "digits", "dataset": "ds_..."}': r'"kind":"classify_many","state":"queued"',
    "curl -H Accept: text/csv http://127.0.0.1:8000/v1/jobs/job_.../results > november.csv": "",
    # docs/upload.md
    'curl -F file=@model.onnx -F labels=@labels.txt -F options={"preprocessing": "imagenet"} '
    "http://127.0.0.1:8000/v1/models/mine/versions": r'"kind":"publish","state":"queued"',
    'curl -F file=@best.pth -F labels=@labels.txt -F options={"architecture": "resnet18"} '
    "http://127.0.0.1:8000/v1/models/mine/versions": r'"kind":"publish","state":"queued"',
    "curl -F file=@model.onnx http://127.0.0.1:8000/v1/models/mine/versions": r'"kind":"publish"',
    # docs/teach.md
    "fovea datasets create photos/": "ready",
    "curl -X POST --data-binary @photos.zip http://127.0.0.1:8000/v1/datasets?name=photos&on_fault=skip": (
        r'"kind":"ingest"'
    ),
    # docs/api.md again, which measures by what was just sent
    "curl -H Content-Type: application/json http://127.0.0.1:8000/v1/evaluations "
    '-d {"models": ["mine:2", "mine:1"], "dataset": "ds_..."}': r'"kind":"evaluate","state":"queued"',
    "curl http://127.0.0.1:8000/v1/evaluations/job_.../card > card.html": "",
    # docs/teach.md
    "fovea datasets report ID": "15",
    # docs/knowing.md
    "fovea datasets revise ID --relabel red/0.jpg=blue --remove red/1.jpg": r"red to blue.*is ready",
    "fovea datasets revise ID --changes changes.csv --add more/": r"added.*is ready",
    "fovea datasets revisions ID": r"revision.*ds_",
    # docs/api.md
    'curl -F changes={"remove": ["red/1.jpg"]} -F archive=@more.zip '
    "http://127.0.0.1:8000/v1/datasets/ds_.../revisions": r'"kind":"revise"',
    # docs/teach.md
    "curl -H Content-Type: application/json http://127.0.0.1:8000/v1/finetunes -d { "
    '"model": "mine", "dataset": "ds_...", "architecture": "mobilenet_v2"}': r'"kind":"finetune","state":"queued"',
    "fovea jobs cancel JOB": "cancelled",
    "fovea models promote mine 1": "mine@production is version 1",
    "fovea models promote mine 2": "mine@production is version 2",
    "fovea models rollback mine": "version 1",
    "fovea evaluate mine:2 mine@production photos/ --output evaluation.html": (
        r"mine:2 +mine:1.*cannot tell which of mine:2 and mine:1.*evaluation\.html"
    ),
    # docs/knowing.md
    "fovea models drift mine": r"mine:\d has nothing to compare served images with",
    "fovea models variants mine": "No variant of mine:1 was tried yet",
    "fovea models variants mine:1 --dataset ds_... --no-wait": r"job_\w+ is queued",
    "fovea models alias mine production": r"production.*\b2\b",
    "fovea models alias mine canary 2": "mine@canary is version 2",
    "fovea models alias mine canary --delete": "canary",
    "fovea models download mine 2": r"mine-2\.zip",
    "fovea models delete mine 2": "mine",
    # docs/zoo.md
    "fovea architectures show NAME": "ResNet",
    "fovea weights list NAME": "imagenet1k_v1",
    # docs/operations.md
    "fovea jobs list --state failed": "",
    "fovea keys create Anna's laptop --scope train --days 90": r"fov_\w{12}\.",
    "fovea keys list": r"Anna's laptop.*train.*usable",
    "fovea keys limits PREFIX --jobs-waiting 5": "5 jobs waiting",
    "fovea keys limits PREFIX --reset": "as the gateway is set",
    "fovea keys revoke PREFIX": r"Anna's laptop\) is revoked",
    "fovea audit --subject digits --since 2026-11-01": r"system.*version\.register.*digits",
    "fovea audit --actor Anna's laptop --action alias --json": r"\[\]",
    "fovea backup /backups": r"fovea-\d{8}T\d{6}Z\.tar",
    "fovea restore /backups/fovea-20261121T120000Z.tar --data data": "models",
}
# With a training worker and published weights.
SLOW = {
    "fovea models publish imagenet --architecture mobilenet_v2 --weights imagenet": "imagenet version 1",
    "fovea classify photo.jpg --model imagenet": r"\d %",
    "fovea finetune photos/ --model mine --architecture mobilenet_v2": r"mine version 1\b.*100\.0 %",
    "fovea classify photo.jpg --model mine --explain out.png": r"photo\.jpg",
    # docs/knowing.md
    "fovea similar photo.jpg --model mine": r"photo\.jpg +(red|green|blue) +0\.\d+ +(red|green|blue)/\d\.jpg",
    "fovea embed photo.jpg --model mine --output photo.npy": r"photo\.jpg +256",
    "fovea jobs watch JOB": "succeeded",
    "fovea models card NAME VERSION --output card.html": "",
    "fovea models filters mine --out filters": r"kernels\.png",
    "fovea models publish mine --file model.onnx --labels labels.txt --preprocessing imagenet": r"mine version \d",
    "fovea weights import FILE -a ARCHITECTURE -n NAME": "my-own",
    "fovea doctor": "Redis",
}
# The Python programs of a page by their place on it, and what each has to print; the slow ones as above.
PROGRAMS = {
    "README.md 1": r"^red$",
    "docs/client.md 1": r"^red with 9\d\.\d%, by digits version 1\n0 red 0\.9",
    "docs/client.md 2": r"blue/0\.jpg blue\n.*red/4\.jpg red\nNone This is no file.*\(not_an_image\)",
    "docs/client.md 3": r"^\['red', 'red'\]$",
    "docs/client.md 5": r"^queued \{\}\njob \w+ is still queued after \d s\ncancelled\n1 state .*\n2 state",
    "docs/client.md 6": r"digits 1 \{\}\nmine 2.*\n1\n\('red', 'green', 'blue'\)\nmine-1\.zip",
    "docs/client.md 7": r"^not_an_image This is no file",
    "docs/client.md 8": r"^red green\n\['digits', ",
    "docs/client.md 9": r"blue/0\.jpg blue\n.*red/4\.jpg red\nseen\.csv",
    "docs/client.md 10": r"^mine:2 1\.0 \(0\.\d+, 1\.0\)\nmine:1 1\.0 .*\nThese images cannot tell",
}
SLOW_PROGRAMS = {
    "docs/upload.md 1": r"^mine:\d+$",
    "docs/client.md 4": r"^mine:\d+ 1\.0\n(red|green|blue)$",
}
PROGRAMS_NOT_RUN = {
    "docs/api.md 1": "is a receiver's; tests/service/webhooks/test_webhooks.py verifies so",
    "docs/teach.md 1": "tests/models/test_file_alone.py runs it",
    "docs/protocol.md 1": "tests/service/protocol/test_tritonclient.py runs it where tritonclient is",
    "client/README.md 1": "is the third line of README.md, with a photograph of one's own",
}
DOCKER = "needs a container engine; tests/stack/ drives one of its own"
CLUSTER = "needs a Kubernetes cluster; tests/docker/test_kubernetes.py checks what is applied"
INTERNET = "fetches from a publisher; tests/cli/test_weights.py pulls from a server of its own"
NOT_RUN = {
    "make run": "is `fovea up`, which tests/cli/up/test_run.py runs",
    "fovea up --grpc-port 0": "tests/cli/up/test_run.py runs it",
    "make test": "runs this",
    "fovea datasets diagnose ID --model mine --output page.html": (
        "needs a training worker; tests/cli/test_diagnose.py has one"
    ),
    "fovea datasets diagnose ID --model mine": "as above",
    "fovea demo": "tests/cli/up/test_run.py runs it",
    "fovea classify photo.jpg --explain out.png": "tests/cli/test_classify.py runs it",
    "pip install ./client": "tests/client/test_package.py does, with uv",
    "git clone ... fovea && cd fovea": "names no address",
    "git pull": "needs the host of the repository",
    "docker compose up -d --build --wait": DOCKER,
    "docker compose build": DOCKER,
    "sh docker/roll.sh": DOCKER,
    "docker compose pull database broker transit": DOCKER,
    "docker save $(docker compose config --images | sort -u) | gzip > fovea-images.tar.gz": DOCKER,
    "docker build -f docker/Dockerfile --target gateway -t REGISTRY/fovea/gateway:0.1.0 .": DOCKER,
    "docker build -f docker/Dockerfile --target worker-inference --build-arg ACCELERATOR=cuda "
    "-t REGISTRY/fovea/worker-inference:0.1.0-cuda .": DOCKER,
    "fovea weights pull mobilenet_v2 --weights-dir weights": INTERNET,
    "fovea weights pull resnet18 --weights-dir weights": INTERNET,
    "fovea weights pull ARCHITECTURE [NAME]": INTERNET,
    "kubectl create namespace fovea": CLUSTER,
    "cp docker/kubernetes/secret.example.yaml secret.yaml": CLUSTER,
    "kubectl apply -f secret.yaml": CLUSTER,
    "kubectl apply -k docker/kubernetes/base": CLUSTER,
    "kubectl -n fovea wait --for=condition=complete job/migrate --timeout=120s": CLUSTER,
}
COMMANDS = {command.words: command for command in printed_commands()}
PYTHON = {
    f"{page.name} {place}": program
    for page in [*pages(), Page("client/README.md")]
    if not page.is_history
    for place, program in enumerate(page.blocks("python"), 1)
}


def test_every_printed_command_is_run_or_has_a_reason_why_not() -> None:
    assert sorted([*QUICK, *SLOW, *NOT_RUN]) == sorted(COMMANDS)


def test_every_printed_program_is_run_or_has_a_reason_why_not() -> None:
    assert sorted([*PROGRAMS, *SLOW_PROGRAMS, *PROGRAMS_NOT_RUN]) == sorted(PYTHON)


@pytest.mark.parametrize("reason", sorted({*NOT_RUN.values(), *PROGRAMS_NOT_RUN.values()}))
def test_what_runs_a_command_in_the_place_of_this_exists(reason: str) -> None:
    for named in re.findall(r"\btests/[\w./]+\w/?", reason):
        assert (ROOT / named).exists(), named


@pytest.mark.parametrize("page", [page for page in pages() if not page.is_history], ids=str)
def test_programs_that_a_page_names_exist(page: Page) -> None:
    for code in page.code():
        if re.match(r"fovea [a-z]", code):
            arguments_of(code)
        if module := re.match(r"python -m ([\w.]+)", code):
            assert find_spec(module[1]), code


# Gateway and inference worker, with models that nobody trained: what trains only begins.


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    folder = tmp_path_factory.mktemp("clone")
    place_deployment_files(folder)
    make_photographs(folder)
    (folder / "backups").mkdir()
    (folder / "data/samples").mkdir(parents=True)
    for digit, colour in (("0", "green"), ("7", "red")):
        (folder / f"data/samples/digit-{digit}-0.png").write_bytes(picture(colour))
    service = Stack(folder / "data")
    try:
        service.start()
        service.publish("models/digits/1/", "digits")
        service.publish("models/mine/1/", "mine")
        service.publish("models/mine/2/", "mine")
        service.wait_until(lambda: service.workers() == 1, "a worker")
        yield Playground(folder, service.url, {"/backups": f"{folder}/backups", "NAME": "resnet18"})
    finally:
        service.stop()


def make_photographs(folder: Path) -> None:
    """`photos/`, other ones as `photos.zip` and `november.zip`, some more of both; models of one's own."""
    (folder / "model.onnx").write_bytes(onnx_file())
    (folder / "best.pth").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "labels.txt").write_text("ant\nbee\ncrane\n")
    with zipfile.ZipFile(folder / "november.zip", "w") as archive:
        archive.writestr("2026/a.jpg", picture("red", noise=999, form="JPEG"))
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for label in LABELS:
            (folder / "photos" / label).mkdir(parents=True)
            for n in range(5):
                photograph = folder / "photos" / label / f"{n}.jpg"
                photograph.write_bytes(picture(label, noise=n + 1, form="JPEG"))
                archive.writestr(f"{label}/{n}.jpg", picture(label, noise=n + 101, form="JPEG"))
    (folder / "changes.csv").write_text("image,label,split,remove\ngreen/0.jpg,blue,,\ngreen/1.jpg,,,true\n")
    (folder / "more" / "red").mkdir(parents=True)
    (folder / "more" / "red" / "new.jpg").write_bytes(picture("red", noise=501, form="JPEG"))
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("red/newer.jpg", picture("red", noise=502, form="JPEG"))


def newest(playground: Playground, kind: str, *until: str) -> str:
    """The id of the newest job, or of the newest dataset once it is checked; in one of those states."""
    deadline = time.monotonic() + 60
    while True:
        listed = httpx.get(f"{playground.url}/v1/{kind}", timeout=20).json()["items"]
        if listed[0]["state"] in until if until else listed[0]["state"] != "checking":
            return str(listed[0]["id"])
        assert time.monotonic() < deadline, listed[0]
        time.sleep(0.05)


# Before the commands, some of which delete what programs use.
@pytest.mark.parametrize("place", PROGRAMS)
def test_a_program_does_what_the_page_says(place: str, playground: Playground) -> None:
    said = playground.run_python(PYTHON[place])
    assert re.search(PROGRAMS[place], said, re.DOTALL), said


@pytest.mark.parametrize("words", QUICK)
def test_it_does_what_the_page_says(words: str, playground: Playground) -> None:
    if words.endswith(" ID") or "ds_..." in words:
        playground.replaced |= dict.fromkeys(("ID", "ds_..."), newest(playground, "datasets"))
    if "JOB" in words:
        playground.replaced["JOB"] = newest(playground, "jobs")
    if "job_..." in words:
        playground.replaced["job_..."] = newest(playground, "jobs", "succeeded")
    if "PREFIX" in words:
        playground.replaced["PREFIX"] = json.loads(playground.run(Printed("", "fovea keys list --json")))[-1][
            "prefix"
        ]
    if "restore" in words:
        (backup,) = (playground.folder / "backups").iterdir()
        playground.replaced |= {"fovea-20261121T120000Z.tar": backup.name, "--data data": "--data restored"}
    said = playground.run(COMMANDS[words])
    assert re.search(QUICK[words], said, re.DOTALL), said
    if "> card.html" in words:
        assert "mine:2 and mine:1" in (playground.folder / "card.html").read_text("utf-8")
    if "november.csv" in words:
        path, label, *_ = (playground.folder / "november.csv").read_text().splitlines()[1].split(",")
        assert (path, label) == ("2026/a.jpg", "red")


# All of Fovea, as `fovea up` starts it, and real weights.


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Iterator[Playground]:
    from safetensors.torch import save_file

    from models.zoo.registry import build

    folder = tmp_path_factory.mktemp("whole")
    make_photographs(folder)
    shutil.copy(next((test_data / "imagenet/samples").iterdir()), folder / "photo.jpg")
    shutil.copytree(test_data / "weights", folder / "weights")
    save_file(build("lenet5").state_dict(), folder / "mine.safetensors")
    environment = {"FOVEA_WEIGHTS_DIR": f"{folder}/weights", "FOVEA_OFFLINE": "true"}
    with (folder / "up.log").open("w") as log:
        command = [sys.executable, "-m", "cli.main", "up", "--port", "0", "--no-starter"]
        up = subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while not (ready := re.search(r"Fovea is ready at (\S+)", (folder / "up.log").read_text())):
            assert up.poll() is None, (folder / "up.log").read_text()
            assert time.monotonic() < deadline, (folder / "up.log").read_text()
            time.sleep(0.1)
        # The one architecture whose weights are in the test data stands for the one that the pages name.
        yield Playground(folder, ready[1], {"mobilenet_v2": "mobilenet_v1_025"}, environment)
    finally:
        up.terminate()
        up.wait(60)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("words", SLOW)
def test_it_does_what_the_page_says_with_all_of_fovea(words: str, whole: Playground) -> None:
    if "JOB" in words:
        whole.replaced["JOB"] = newest(whole, "jobs?kind=finetune")
    if "FILE" in words:
        whole.replaced |= {"FILE": "mine.safetensors", "ARCHITECTURE": "lenet5", "NAME": "my-own"}
    elif "NAME" in words:
        whole.replaced["NAME VERSION"] = "mine 1"
    said = whole.run(COMMANDS[words])
    assert re.search(SLOW[words], said, re.DOTALL), said
    if "card.html" in words:
        assert "<html" in (whole.folder / "card.html").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("place", SLOW_PROGRAMS)
def test_a_program_does_what_the_page_says_with_all_of_fovea(place: str, whole: Playground) -> None:
    said = whole.run_python(PYTHON[place])
    assert re.search(SLOW_PROGRAMS[place], said, re.DOTALL), said
