"""docker-compose.yml and .env.example: what the schema's check in `make lint` can't see."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
# Set by ftq for its own processes, or by a test: nobody sets these in an environment file.
INTERNAL = {"FTQ_COMPLETE", "FTQ_REPORT_FD", "FTQ_RANK_ZERO", "FTQ_STAGE_SECONDS", "FTQ_JOURNAL"}
DEFAULTS = dict(re.findall(r"\$\{(FTQ_\w+):-([^}]*)\}", TEXT))


def _with_defaults(text: str) -> dict[str, Any]:
    """The compose file as it is without an .env, the two variables that it demands given."""
    text = re.sub(r"\$\{(?:FTQ|AWS|OTEL)_\w+:-([^}]*)\}", r"\1", text)
    text = re.sub(r"\$\{FTQ_(?:UID|GID):\?[^}]*\}", "1000", text)
    assert "${" not in text
    return dict(yaml.safe_load(text))


COMPOSE = _with_defaults(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_unprivileged(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["user"].split(":")[0] not in ("", "0", "root")


def test_the_broker_is_reached_by_the_other_services_only() -> None:
    broker = SERVICES["redis"]
    assert "ports" not in broker
    assert broker["networks"] == ["queue"]
    assert COMPOSE["networks"]["queue"] == {"internal": True}
    assert "--aclfile /run/secrets/broker_acl" in broker["command"]


def test_the_broker_keeps_what_it_is_given() -> None:
    words = SERVICES["redis"]["command"].split()
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--dir"] == SERVICES["redis"]["volumes"][0]["target"]


def test_ports_are_published_on_this_machine_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "flower": ["127.0.0.1:5555:5555"], "serve": ["127.0.0.1:8787:8787"], "broker": ["127.0.0.1:6379:6379"],
        "postgres": ["127.0.0.1:5432:5432"], "storage": ["127.0.0.1:8333:8333"],
        "prometheus": ["127.0.0.1:9090:9090"], "grafana": ["127.0.0.1:3000:3000"],
    }  # fmt: skip
    chosen = re.findall(r'\["\$\{FTQ_CLUSTER_ADDRESS:-127\.0\.0\.1\}:(\d+)', TEXT)
    assert chosen == ["6379", "5432", "8333"], "what other machines need, and where the user says so"


def test_no_password_is_in_an_environment_or_a_command() -> None:
    names = {name for service in SERVICES.values() for name in service.get("environment", {})}
    assert {name for name in names if re.search("PASSWORD|AUTH|TOKEN|KEY", name)} == {
        "FTQ_BROKER_PASSWORD_FILE", "FTQ_DATABASE_PASSWORD_FILE", "FTQ_FLOWER_AUTH_FILE", "HF_TOKEN_PATH",
        "FTQ_LLM_KEY_FILE", "FTQ_CHAT_KEY_FILE", "FTQ_METRICS_TOKEN_FILE", "POSTGRES_PASSWORD_FILE",
        "GF_SECURITY_ADMIN_PASSWORD__FILE",
    }  # fmt: skip
    assert re.findall(r"://\w+:\w+@", TEXT) == []


def test_a_secret_that_is_read_is_mounted() -> None:
    for service in SERVICES.values():
        named = re.findall(r"/run/secrets/(\w+)", str(service))
        assert set(named) <= set(service.get("secrets", [])) <= set(COMPOSE["secrets"])


@pytest.mark.parametrize("name", ["worker", "worker-cpu"])
def test_a_worker_has_time_to_save_a_checkpoint(name: str) -> None:
    service = SERVICES[name]
    # `ftq up` waits the grace time and 10 s for the workers, then for Flower and the broker 10 s each
    assert int(service["stop_grace_period"].rstrip("s")) > int(DEFAULTS["FTQ_GRACE_SECONDS"]) + 30
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", ["worker", "worker-cpu", "flower", "serve", "cli"])
def test_up_for_one_service_brings_the_broker(name: str) -> None:
    assert SERVICES[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_plain_up_starts_what_needs_no_profile() -> None:
    started = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert started == {"redis", "worker", "flower", "serve"}


def test_what_several_machines_share_is_started_by_its_profile_only() -> None:
    shared = {name for name, service in SERVICES.items() if service.get("profiles") == ["cluster"]}
    assert shared == {"broker", "postgres", "storage", "prometheus", "grafana"}
    assert SERVICES["broker"]["command"] == SERVICES["redis"]["command"]
    for name in ("worker", "worker-cpu", "serve", "cli"):
        assert {"database_password", "s3_credentials"} <= set(SERVICES[name]["secrets"])


def test_what_prometheus_and_grafana_read_is_there() -> None:
    mounts = [mount for name in ("prometheus", "grafana") for mount in SERVICES[name]["volumes"]]
    files = [ROOT / mount["source"] for mount in mounts if mount.get("read_only")]
    assert len(files) == 5 and all(path.is_file() for path in files)
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    target = scraped["scrape_configs"][0]["static_configs"][0]["targets"][0]
    assert target.split(":")[0] in SERVICES and f":{target.split(':')[1]}" in str(SERVICES["serve"]["ports"])
    targets = {mount["target"] for mount in mounts}
    assert set(scraped["rule_files"]) <= targets
    assert scraped["scrape_configs"][0]["authorization"]["credentials_file"] == "/run/secrets/metrics_token"
    dashboards = yaml.safe_load((ROOT / "deploy" / "grafana" / "dashboards.yml").read_text())
    assert f"{dashboards['providers'][0]['options']['path']}/ftq.json" in targets


def test_make_secrets_makes_what_the_file_reads(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".env.example", tmp_path)
    subprocess.run([ROOT / "images" / "secrets.sh", tmp_path], check=True, capture_output=True, timeout=300)
    assert all((tmp_path / secret["file"]).is_file() for secret in COMPOSE["secrets"].values())
    made = {path.name for path in (tmp_path / "cluster").iterdir()}
    needed = {Path(volume["source"]).name for service in SERVICES.values() for volume in service.get("volumes", ())
              if str(volume["source"]).startswith("./cluster")}  # fmt: skip
    assert made == needed
    credentials = configparser.ConfigParser()
    credentials.read(tmp_path / "secrets" / "s3_credentials")
    known = json.loads((tmp_path / "secrets" / "s3_identities").read_text())["identities"][0]["credentials"][0]
    assert known == {
        "accessKey": credentials["default"]["aws_access_key_id"],
        "secretKey": credentials["default"]["aws_secret_access_key"],
    }


def test_documents_are_read_only_and_artifacts_are_shared() -> None:
    for name in ("worker", "worker-cpu", "cli", "serve"):
        mounts = {mount["target"]: mount for mount in SERVICES[name]["volumes"]}
        assert mounts["/ftq/documents"]["read_only"] is True
        assert mounts["/ftq/artifacts"]["source"] == "./artifacts"


def test_the_images_caches_lie_on_the_cache_volume() -> None:
    dockerfile = (ROOT / "Dockerfile.gpu").read_text()
    caches = dict(re.findall(r"^\s+(\w*(?:CACHE|HOME|LOCATION)\w*)=(\S+)", dockerfile, re.MULTILINE))
    assert caches.pop("FTQ_HOME") == "/ftq/artifacts"
    assert {"HOME", "FTQ_CACHE", "HF_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR",
            "UNSLOTH_COMPILE_LOCATION"} == set(caches)  # fmt: skip
    assert all(path.split("/")[1] == "cache" for path in caches.values())
    assert {"type": "volume", "source": "cache", "target": "/cache"} in SERVICES["worker"]["volumes"]


def test_the_example_names_every_variable() -> None:
    sources = [path for folder in ("ftq", "cli", "worker", "gateway") for path in (ROOT / folder).rglob("*.py")]
    used = {name for path in sources for name in re.findall(r"\b_?(FTQ_[A-Z_]*[A-Z])\b", path.read_text())}
    used |= set(re.findall(r"\bFTQ_[A-Z_]*[A-Z]\b", TEXT))
    named = set(re.findall(r"\bFTQ_[A-Z_]*[A-Z]\b", EXAMPLE))
    # FTQ_BROKER in the code is the head of several names
    assert {name for name in used - INTERNAL if not any(f"{other}_".startswith(f"{name}_") for other in named)} == set()


def test_the_examples_defaults_are_those_of_the_compose_file() -> None:
    shown = dict(re.findall(r"^#(FTQ_\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    shown["FTQ_DATABASE_URL"] = shown["FTQ_AUTO_SUBMIT"] = ""  # examples: the default is none
    # worker-cpu has other defaults for these, and its lines come last
    first = dict(reversed(re.findall(r"\$\{(FTQ_\w+):-([^}]*)\}", TEXT)))
    assert shown == {name: first[name] for name in shown}
