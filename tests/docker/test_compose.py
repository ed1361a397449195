"""What can be known of the deployment without an engine: that files are well-formed and keep their promises.

`make stack-test` starts it for real.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
PROJECT = ROOT / "docker-compose.yml"
OVERRIDES = sorted((ROOT / "docker").glob("compose.*.yml"))
DOCKERFILES = [ROOT / "docker/Dockerfile", *sorted((ROOT / "tests/stack/bases").glob("*.Dockerfile"))]
SCRIPTS = sorted([*(ROOT / "docker").glob("*.sh"), *(ROOT / "tests/stack").rglob("*.sh")])
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(PROJECT.read_text())["services"]


def tool(name: str, *arguments: str | Path) -> None:
    program = Path(sys.executable).with_name(name)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", [PROJECT, *OVERRIDES], ids=lambda file: file.name)
def test_compose_files_are_as_the_specification_has_them(file: Path, tmp_path: Path) -> None:
    # The tags for merging are known to compose and to no YAML parser.
    (tmp_path / file.name).write_text(file.read_text().replace(" !override", "").replace(" !reset", ""))
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", tmp_path / file.name)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_dockerfiles_are_well_made(file: Path) -> None:
    # What a stand-in for a public image installs is whatever Debian has today.
    stand_in = file.parent.name == "bases"
    tool("hadolint", *(["--ignore", "DL3008"] if stand_in else []), file)


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_scripts_are_well_made(file: Path) -> None:
    tool("shellcheck", file)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_without_rights_and_under_limits(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["logging"]["options"]["max-size"]


def test_nothing_but_the_proxy_and_what_people_look_at_is_published_and_that_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published.pop("proxy") == [
        "${FOVEA_ADDRESS:-127.0.0.1}:${FOVEA_PORT:-8000}:8000",
        "${FOVEA_ADDRESS:-127.0.0.1}:${FOVEA_GRPC_PORT:-8001}:8001",
    ]
    for name, ports in published.items():
        assert SERVICES[name].get("profiles"), f"{name} is published and always there"
        assert all(port.startswith(("127.0.0.1:", "${")) for port in ports), ports


@pytest.mark.parametrize(
    "name", ["worker-inference", "worker-training", "broker", "transit", "database", "migrate"]
)
def test_workers_queues_and_database_have_no_way_out(name: str) -> None:
    networks = yaml.safe_load(PROJECT.read_text())["networks"]

    assert SERVICES[name]["networks"] == ["internal"]
    assert networks["internal"] == {"internal": True}


def test_every_secret_that_the_project_names_is_one_that_init_writes() -> None:
    secrets = yaml.safe_load(PROJECT.read_text())["secrets"].values()
    written = (ROOT / "docker/init.sh").read_text()

    for secret in secrets:
        assert f"write {secret['file'].removeprefix('./')} " in written


def test_the_engine_is_sent_only_what_the_images_are_made_of() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for line in (ROOT / "docker/Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for word in line.split()[1:-1]
    }

    assert {path.split("/")[0] for path in copied} <= {path.split("/")[0] for path in kept}
    assert all((ROOT / path).exists() for path in kept)


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda file: file.name)
def test_docker_compose_reads_the_project_with_each_override(override: Path) -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not on this machine")
    command = [docker, "compose", "-f", PROJECT, "-f", override, "config", "--format", "json"]
    environment = os.environ | {"FOVEA_BLOBS_URL": "s3://fovea/production"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["services"]
