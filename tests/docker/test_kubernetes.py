"""The Kustomize base and its GPU overlay: valid by Kubernetes' own schemas, locked down, and true to the code.

No cluster has run them. KEDA's objects have a schema here, after its resource definitions.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from service.settings import GatewaySettings
from workers.celery_app import KEY_PREFIX
from workers.contract.queues import TASK_OF_JOB, Queue, TaskName
from workers.settings import WorkerSettings

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docker/kubernetes"
KUBERNETES = "1.31"
# In KEDA's objects every value of a trigger's metadata is text; a number there is refused by the cluster.
TEXT: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TRIGGER = closed(
    ["type", "metadata"],
    type={"enum": ["cpu", "redis", "postgresql"]},
    metricType={"enum": ["Utilization", "AverageValue", "Value"]},
    metadata={"type": "object", "additionalProperties": TEXT},
    authenticationRef=closed(["name"], name=TEXT),
)
KEDA = {
    "ScaledObject": closed(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=closed(["name"], name=TEXT),
        minReplicaCount=NUMBER,
        maxReplicaCount=NUMBER,
        pollingInterval=NUMBER,
        cooldownPeriod=NUMBER,
        advanced={"type": "object"},
        triggers={"type": "array", "minItems": 1, "items": TRIGGER},
    ),
    "TriggerAuthentication": closed(
        ["secretTargetRef"],
        secretTargetRef={
            "type": "array",
            "items": closed(["parameter", "name", "key"], parameter=TEXT, name=TEXT, key=TEXT),
        },
    ),
}


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def written() -> list[dict[str, Any]]:
    """What the base's files hold, without Kustomize."""
    names = yaml.safe_load((FOLDER / "base/kustomization.yaml").read_text())["resources"]
    return [document for name in names for document in documents((FOLDER / "base" / name).read_text())]


def built(overlay: str) -> list[dict[str, Any]]:
    program = shutil.which("kustomize")
    kubectl = shutil.which("kubectl")
    if not program and not kubectl:
        pytest.skip("neither kustomize nor kubectl is on this machine")
    command = [program, "build"] if program else [str(kubectl), "kustomize"]
    done = subprocess.run([*command, FOLDER / overlay], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def check(resource: dict[str, Any]) -> None:
    if resource["kind"] in KEDA:
        assert resource["apiVersion"] == "keda.sh/v1alpha1"
        jsonschema.validate(resource["spec"], KEDA[resource["kind"]])
    else:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)


BASE = written()
EXAMPLE = documents((FOLDER / "secret.example.yaml").read_text())
PODS = {
    one["metadata"]["name"]: one["spec"]["template"]["spec"]
    for one in BASE
    if one["kind"] in ("Deployment", "Job")
}


def of_kind(kind: str, resources: list[dict[str, Any]] = BASE) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in resources if one["kind"] == kind}


@pytest.mark.parametrize("resource", [*BASE, *EXAMPLE], ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_every_resource_fits_its_schema(resource: dict[str, Any]) -> None:
    check(resource)


@pytest.mark.parametrize("overlay", ["base", "gpu"])
def test_what_kustomize_builds_fits_too(overlay: str) -> None:
    resources = built(overlay)
    assert len(resources) == len(BASE)
    for resource in resources:
        check(resource)
        assert resource["metadata"]["namespace"] == "fovea"


def test_the_gpu_overlay_asks_for_a_gpu_and_refuses_to_work_without() -> None:
    deployments = of_kind("Deployment", built("gpu"))
    for name, variable in (("worker-inference", "FOVEA_DEVICE"), ("worker-training", "FOVEA_TRAINING_DEVICE")):
        (container,) = deployments[name]["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert {"name": variable, "value": "cuda"} in container["env"]
    assert "env" not in deployments["gateway"]["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("name", PODS)
def test_every_pod_is_locked_down(name: str) -> None:
    pod = PODS[name]
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in dockerfile
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= container["resources"].keys()
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/tmp", "/data"} <= mounted
        assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume)


def test_every_server_has_probes_a_budget_or_a_scaler_and_a_network_policy() -> None:
    for name in of_kind("Deployment"):
        (container,) = PODS[name]["containers"]
        assert {"startupProbe", "livenessProbe"} <= container.keys()
    assert of_kind("PodDisruptionBudget").keys() == {"gateway", "worker-inference"}
    assert of_kind("HorizontalPodAutoscaler").keys() == {"gateway"}
    assert of_kind("ScaledObject").keys() == {"worker-inference", "worker-training"}
    assert "ingress" not in of_kind("NetworkPolicy")["workers"]["spec"]


def test_the_scalers_look_at_the_lists_and_the_jobs_that_there_are() -> None:
    triggers = [t for scaler in of_kind("ScaledObject").values() for t in scaler["spec"]["triggers"]]
    lists = {trigger["metadata"]["listName"] for trigger in triggers if trigger["type"] == "redis"}
    assert lists == {KEY_PREFIX + queue.value for queue in Queue}
    (query,) = (trigger["metadata"]["query"] for trigger in triggers if trigger["type"] == "postgresql")
    quoted = set(re.findall(r"'(\w+)'", query))
    training = {kind for kind, task in TASK_OF_JOB.items() if task is TaskName.RUN_TRAINING_JOB}
    assert quoted == training | {"queued", "running"}
    references = {t["authenticationRef"]["name"] for t in triggers if "authenticationRef" in t}
    assert references == of_kind("TriggerAuthentication").keys()


def test_every_setting_is_one_that_a_process_reads() -> None:
    known = {f"FOVEA_{name}".upper() for name in {**GatewaySettings.model_fields, **WorkerSettings.model_fields}}
    given = set(of_kind("ConfigMap")["fovea"]["data"]) | set(of_kind("Secret", EXAMPLE)["fovea"]["stringData"])
    given |= {entry["name"] for pod in PODS.values() for entry in pod["containers"][0].get("env", [])}
    assert {name for name in given if name.startswith("FOVEA_")} <= known
    assert {"FOVEA_DATABASE_URL", "FOVEA_BLOBS_URL", "FOVEA_BROKER_URL"} <= given


def test_every_key_that_is_referred_to_is_in_the_example() -> None:
    example = {name: secret["stringData"].keys() for name, secret in of_kind("Secret", EXAMPLE).items()}
    for authentication in of_kind("TriggerAuthentication").values():
        for reference in authentication["spec"]["secretTargetRef"]:
            assert reference["key"] in example[reference["name"]]
    for pod in PODS.values():
        for volume in pod["volumes"]:
            assert "secret" not in volume or volume["secret"]["secretName"] in example
    assert not any(one["kind"] == "Secret" for one in BASE)
