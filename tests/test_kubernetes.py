"""deploy/kubernetes: what the schemas' check in `make lint` can't see, that its names are ftq's real ones."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftq.programs import ServeOptions, WorkerOptions
from ftq.settings import Settings
from ftq.store.records import QUEUES
from gateway.access import OPEN

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
FILES = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.yaml")}
OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    (one["kind"], one.get("metadata", {}).get("name", "")): one
    for text in FILES.values() for one in yaml.safe_load_all(text)
}  # fmt: skip
SETTINGS: dict[str, str] = OBJECTS["ConfigMap", "ftq"]["data"]
PODS = {name: one["spec"]["template"]["spec"] for (kind, name), one in OBJECTS.items() if kind == "Deployment"}
WORKERS = [name for name in PODS if name.startswith("ftq-worker")]
OTHERS = {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_SHARED_CREDENTIALS_FILE", "HF_TOKEN_PATH"}


def container(name: str) -> dict[str, Any]:
    (only,) = PODS[name]["containers"]
    return dict(only)


def test_every_file_is_applied() -> None:
    kustomization = OBJECTS["Kustomization", ""]
    assert sorted([*kustomization["resources"], "kustomization.yaml"]) == sorted(FILES)
    used = {container(name)["image"] for name in PODS}
    assert used == {image["name"] for image in kustomization["images"]}
    built = set(re.findall(r"image: (ftq-[a-z-]+):", (ROOT / "docker-compose.yml").read_text()))
    assert used == built


@pytest.mark.parametrize("name", PODS)
def test_every_pod_is_unprivileged(name: str) -> None:
    pod, its = PODS[name], container(name)["securityContext"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert its == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


@pytest.mark.parametrize("name", PODS)
def test_every_variable_is_one_that_ftq_reads(name: str) -> None:
    known = set(re.findall(r"\bFTQ_[A-Z_]*[A-Z]\b", (ROOT / ".env.example").read_text()))
    own = {one["name"] for one in container(name).get("env", [])}
    assert own | set(SETTINGS) <= known | OTHERS
    assert container(name)["envFrom"] == [{"configMapRef": {"name": "ftq"}}]


def test_the_settings_are_taken(tmp_path: Path) -> None:
    given = {key: value for key, value in SETTINGS.items() if not key.endswith("_FILE")}
    settings = Settings.from_env({**given, "FTQ_HOME": str(tmp_path)})
    assert (settings.embedded, settings.database_url) == (False, SETTINGS["FTQ_DATABASE_URL"])


@pytest.mark.parametrize("name", PODS)
def test_every_secret_is_made_and_mounted(name: str, tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    subprocess.run([ROOT / "images" / "secrets.sh", tmp_path], check=True, capture_output=True, timeout=300)
    volumes = {one["name"]: one for one in PODS[name]["volumes"]}
    mounts = {one["name"]: one["mountPath"] for one in container(name)["volumeMounts"]}
    assert set(volumes) == set(mounts) and volumes["secrets"]["secret"]["secretName"] == "ftq"
    read = [*SETTINGS.values(), *(one["value"] for one in container(name).get("env", []))]
    files = [Path(value) for value in read if str(value).startswith("/run/")]
    assert {str(path.parent) for path in files} == {mounts["secrets"]}
    assert {path.name for path in files} <= {path.name for path in (tmp_path / "secrets").iterdir()}


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_serves_what_its_check_asks_for(name: str) -> None:
    command = container(name)["command"]
    assert command[:2] == ["ftq", "worker"]
    queues = command[command.index("--queues") + 1]
    assert WorkerOptions(queues=queues) and set(queues.split(",")) <= set(QUEUES)
    assert container(name)["readinessProbe"]["exec"]["command"] == ["python", "-m", "worker.host.health", queues]
    assert "livenessProbe" not in container(name)
    assert PODS[name]["terminationGracePeriodSeconds"] > int(SETTINGS["FTQ_GRACE_SECONDS"]) + 30
    dockerfile = (ROOT / "Dockerfile.gpu").read_text()
    written = {mount["mountPath"] for mount in container(name)["volumeMounts"]}
    assert {re.search(r"FTQ_HOME=(\S+)", dockerfile)[1], "/cache"} <= written  # type: ignore[index]


def test_every_queue_has_a_worker_and_one_has_the_gpu() -> None:
    served = {queue for name in WORKERS for queue in container(name)["command"][-1].split(",")}
    assert served == {"cpu", "gpu", "ask"}
    with_gpu = [name for name in WORKERS if "nvidia.com/gpu" in container(name)["resources"]["limits"]]
    assert with_gpu == ["ftq-worker-gpu"] and container("ftq-worker-gpu")["command"][-1] == "gpu"


def test_the_server_is_reached_at_its_port() -> None:
    serve, service = container("ftq-serve"), OBJECTS["Service", "ftq-serve"]["spec"]
    given = dict(text.removeprefix("--").split("=") for text in serve["args"][1:])
    assert ServeOptions(given["host"], int(given["port"])).port == serve["ports"][0]["containerPort"]
    assert service["ports"][0]["port"] == serve["ports"][0]["containerPort"]
    assert service["selector"] == OBJECTS["Deployment", "ftq-serve"]["spec"]["template"]["metadata"]["labels"]
    probes = (serve["readinessProbe"], serve["livenessProbe"])
    assert {probe["httpGet"]["path"] for probe in probes} == {"/healthz"} <= OPEN
    assert {probe["httpGet"]["port"] for probe in probes} == {serve["ports"][0]["name"]}


def test_the_scaler_asks_for_metrics_that_there_are() -> None:
    told = set(re.findall(r"`(ftq_\w+)`", (ROOT / "docs" / "workers.md").read_text()))
    scaled = {name: one["spec"] for (kind, name), one in OBJECTS.items() if kind == "ScaledObject"}
    assert set(scaled) == set(WORKERS)
    for name, spec in scaled.items():
        assert set(spec) <= {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval",
                             "cooldownPeriod", "advanced", "triggers"}  # fmt: skip
        assert spec["scaleTargetRef"] == {"name": name} and "replicas" not in OBJECTS["Deployment", name]["spec"]
        (trigger,) = spec["triggers"]
        asked = trigger["metadata"]
        assert trigger["type"] == "prometheus" and set(asked) == {
            "serverAddress", "query", "threshold", "ignoreNullValues",
        }  # fmt: skip
        assert all(isinstance(value, str) for value in asked.values()), "KEDA takes texts"
        assert set(re.findall(r"ftq_\w+", asked["query"])) <= told
        assert set(re.findall(r'queue="(\w+)"', asked["query"])) <= set(container(name)["command"][-1].split(","))
        assert asked["query"].count("(") == asked["query"].count(")")
