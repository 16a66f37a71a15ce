"""No name and no link leads out of the artifacts folder, and no option carries a secret."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cli_tools import Store, ok, run

from ftq.client.client import Client
from ftq.errors import FtqError, Unavailable, UserError
from ftq.files import run_dir
from ftq.files.artifact import Artifact
from ftq.files.run_dir import RunDir
from ftq.files.snapshot import snapshot
from ftq.settings import Settings, protect_files
from ftq.spec.options import parse
from ftq.store.store import RunStore
from worker.attempt import cache
from worker.attempt.stage_process import spawn
from worker.host import broker

ROOT = Path(__file__).parent.parent
OUT = ["../outside", "..", ".", "", "/etc", "a/b", "a\0b", "a\n", "-rf", ".hidden", "é"]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What must still be there after each attack."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious.md").write_text("# precious\n")
    return folder


# ---- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_id", OUT)
def test_a_run_s_id_names_a_folder_of_the_artifacts(run_id: str, tmp_path: Path) -> None:
    with pytest.raises(FtqError, match="is no run's id"):
        run_dir.run_dir(tmp_path, run_id)
    assert run_dir.run_dir(tmp_path, "abc-1").path == tmp_path / "abc-1"


@pytest.mark.parametrize("command", [["rm", "-y"], ["keep"], ["logs"], ["status"], ["cancel"], ["retry"], ["events"]])
@pytest.mark.parametrize("wanted", ["../outside", "..", "/etc", "%", "_"])
def test_a_path_is_no_run(store: Store, command: list[str], wanted: str, outside: Path) -> None:
    store.add("abc", "one")
    result = run(*command, "--", wanted)
    assert result.exit_code == 2 and f"no run matches {wanted}" in result.output
    assert (outside / "precious.md").exists() and (store.home / "abc").is_dir()


def test_a_poisoned_database_deletes_nothing_elsewhere(store: Store, outside: Path) -> None:
    (store.home / "x").mkdir()
    row = parse({"model": "smollm2-135m"}).model_dump() | {"documents": "/docs"}
    store.runs.create("../outside", "poison", row, "0")
    client = Client(Settings.from_env())
    with pytest.raises(FtqError, match="is no run's id"):
        client.room.remove(client.find("poison"))
    assert (outside / "precious.md").exists()
    client.close()


@pytest.mark.parametrize("options", [["--stage", "../../x"], ["--stage", "train/../.."]])
def test_a_stage_is_one_of_four(store: Store, options: list[str]) -> None:
    store.add("abc", "one")
    assert run("logs", "abc", *options).exit_code == 2
    assert run("retry", "abc", "--from", options[1]).exit_code == 2


@pytest.mark.parametrize("quantization", ["../../x", "q4_k_m/../x", "*", ""])
def test_a_quantisation_is_one_that_is_known(quantization: str) -> None:
    with pytest.raises(UserError, match="unknown quantisation"):
        parse({"model": "smollm2-135m", "quantizations": [quantization]})


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "a b", "-x", "x" * 81, "a\n", "$(id)"])
def test_a_name_has_no_path_in_it(documents: Path, name: str, home: Path) -> None:
    result = run("submit", "--model", "smollm2-135m", f"--name={name}")
    assert result.exit_code == 2 and "letters, digits" in result.output
    assert not home.exists()


def test_a_poisoned_cache_entry_is_none(store: Store, outside: Path, tmp_path: Path) -> None:
    """What is recorded of a stage's files names them within the run."""
    store.add("abc", "one")
    store.do("abc", "prepare", 100, artifacts=[Artifact("x", "../../outside/precious.md", 11)])
    with store.runs.engine.begin() as db:
        db.exec_driver_sql("UPDATE stages SET key = 'k' WHERE name = 'prepare'")
    assert not cache.take(store.runs, store.home, store.runs.get("abc"), "prepare", "k", tmp_path / "partial")
    assert not (tmp_path / "partial").exists()


# ---- links ----------------------------------------------------------------------------------------------


def test_a_link_out_of_the_documents_is_left_behind_and_said(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n")
    (folder / "stolen.md").symlink_to(outside / "precious.md")
    (folder / "passwd.json").symlink_to("/etc/passwd")
    (folder / "folder").symlink_to(outside, target_is_directory=True)
    (folder / "pipe.md").symlink_to("/dev/zero")
    taken = snapshot(folder, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").rglob("*")] == ["a.md"]
    names = ("folder", "passwd.json", "pipe.md", "stolen.md")
    assert taken.skipped == [f"{folder}/{name}: a link that leads out of the folder" for name in names]


def test_deleting_follows_no_link(store: Store, outside: Path) -> None:
    store.add("abc", "one")
    store.add("def", "two")
    (store.home / "abc" / "out").symlink_to(outside, target_is_directory=True)
    (store.home / "abc" / "precious.md").symlink_to(outside / "precious.md")
    (store.home / "def" / "logs").rmdir()
    (store.home / "def").rmdir()
    (store.home / "def").symlink_to(outside, target_is_directory=True)
    for name in ("abc", "def"):
        store.runs.cancel(name)
    ok("gc", "--last", "0", "--yes")
    assert not (store.home / "abc").exists() and not (store.home / "def").is_symlink()
    assert (outside / "precious.md").read_text() == "# precious\n"


# ---- files ----------------------------------------------------------------------------------------------


def test_publishing_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path, outside: Path) -> None:
    folder = RunDir(tmp_path / "run")
    (folder.path / "p").mkdir(parents=True)
    (folder.path / "p" / "answers.jsonl").write_text("new")
    folder.answers.symlink_to(outside / "precious.md")
    folder.publish("infer", folder.path / "p")
    assert folder.answers.read_text() == "new" and not folder.answers.is_symlink()
    assert (outside / "precious.md").read_text() == "# precious\n"


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[tuple[Settings, int]]:
    settings = Settings.from_env({"FTQ_HOME": str(tmp_path / "artifacts")})
    before = os.umask(0o022)
    process = broker.start(settings)
    os.umask(before)
    yield settings, process.pid
    process.terminate()
    process.wait(timeout=300)


@pytest.mark.slow
def test_the_embedded_broker_listens_on_a_closed_socket_and_nowhere_else(embedded: tuple[Settings, int]) -> None:
    settings, pid = embedded
    assert psutil.Process(pid).net_connections("inet") == []
    [listening] = {found.laddr for found in psutil.Process(pid).net_connections("unix") if found.laddr}
    assert listening == str(settings.broker_socket)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (settings.home / "broker").rglob("*")}
    assert modes["valkey.sock"] == 0o700 and modes["appendonlydir"] == 0o700
    assert {mode for name, mode in modes.items() if name not in ("valkey.sock", "appendonlydir")} == {0o600}


def test_a_socket_s_folder_that_somebody_else_has_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outside: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = Settings.from_env({"FTQ_HOME": str(tmp_path / ("long" * 30))})
    folder = settings.broker_socket.parent
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with pytest.raises(FtqError, match="is open to others or not yours"):
        broker.spawn(settings)
    folder.rmdir()
    folder.symlink_to(outside, target_is_directory=True)
    with pytest.raises(FtqError, match="is open to others or not yours"):
        broker.spawn(settings)


@pytest.mark.parametrize("text", ["700", "0700", "7", "8", "abc", "-1", "077 ", "0o77", "0077777"])
def test_a_umask_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match=r"^FTQ_UMASK="):
        protect_files({"FTQ_UMASK": text})


@pytest.mark.parametrize(("text", "mode"), [("", 0o077), ("007", 0o007), ("0027", 0o027), ("022", 0o022)])
def test_the_umask_that_is_set(text: str, mode: int) -> None:
    before = os.umask(0o022)
    try:
        protect_files({"FTQ_UMASK": text})
        assert os.umask(0) == mode
    finally:
        os.umask(before)


# ---- secrets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hf_token", "HF_TOKEN", "token", "wandb_api_key", "api_key", "password", "secret"])
def test_a_secret_is_no_option(documents: Path, name: str, home: Path) -> None:
    result = run("submit", "--model", "smollm2-135m", "--set", f"{name}=hf_abcdefgh")
    assert result.exit_code == 2 and f"{name}: ftq takes no secret as an option" in result.output
    assert "Set HF_TOKEN where the worker runs" in result.output
    assert "hf_abcdefgh" not in result.output
    assert not home.exists()


@pytest.mark.parametrize("name", ["max_token", "r_", "key", "tokens"])
def test_a_typing_error_is_no_secret(name: str) -> None:
    with pytest.raises(UserError, match=f"^unknown option {name}"):
        parse({"model": "smollm2-135m", name: "1"})


PASSWORD = "p/a#s?s@w:o r%d ä"


@pytest.mark.parametrize("name", ["FTQ_BROKER", "FTQ_DATABASE"])
@pytest.mark.parametrize(("login", "user"), [("me@", "me"), ("", None), (":@", None)])
def test_a_password_from_a_file(tmp_path: Path, name: str, login: str, user: str | None) -> None:
    """Any characters; the libraries that read the URL get back just what the file holds."""
    import sqlalchemy as sa
    from kombu.utils.url import url_to_parts

    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    scheme = "redis" if name == "FTQ_BROKER" else "postgresql"
    given = {f"{name}_URL": f"{scheme}://{login}host:77/0", f"{name}_PASSWORD_FILE": str(tmp_path / "password")}
    if login == ":@":
        with pytest.raises(UserError, match=f"{name}_URL has a password and"):
            Settings.from_env(given)
        return
    settings = Settings.from_env(given)
    found: Any = url_to_parts(settings.broker_url) if scheme == "redis" else sa.make_url(settings.database_url)
    place = (found.hostname, found.port) if scheme == "redis" else (found.host, found.port)
    assert (found.username or None, found.password, place) == (user, PASSWORD, ("host", 77))
    assert PASSWORD not in repr(settings) and "%40" not in repr(settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read (No such file or directory)"),
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("one\ntwo\n", "the file has more than one line"),
        (b"\xff\xfe", "not a text file"),
    ],
)
@pytest.mark.parametrize("name", ["FTQ_BROKER_PASSWORD_FILE", "FTQ_DATABASE_PASSWORD_FILE", "FTQ_SIGNING_KEY_FILE"])
def test_a_file_that_holds_no_secret(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        Settings.from_env({"FTQ_BROKER_URL": "redis://h", "FTQ_DATABASE_URL": "postgresql://h/d", name: str(path)})
    assert caught.value.message == f"{name}={path}: {message}"
    assert caught.value.hint


@pytest.mark.parametrize("name", ["FTQ_BROKER", "FTQ_DATABASE"])
def test_a_password_without_a_server(tmp_path: Path, name: str) -> None:
    (tmp_path / "password").write_text("secret")
    with pytest.raises(UserError, match=f"^{name}_PASSWORD_FILE is set, but {name}_URL names no server"):
        Settings.from_env({f"{name}_PASSWORD_FILE": str(tmp_path / "password")})


@pytest.mark.parametrize("url", ["10.0.0.1:6379/0", "ftq@10.0.0.1/ftq", "localhost"])
def test_an_address_without_its_scheme_is_shown_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    (tmp_path / "password").write_text("secret")
    for name in ("FTQ_BROKER", "FTQ_DATABASE"):
        given = {f"{name}_URL": url, f"{name}_PASSWORD_FILE": str(tmp_path / "password")}
        with pytest.raises((UserError, Unavailable)) as caught:
            RunStore(Settings.from_env(given).database_url)
        begins = {"FTQ_BROKER": f"FTQ_BROKER_URL={url}: not a", "FTQ_DATABASE": f"database {url} can't be used: ftq"}
        assert caught.value.message.startswith(begins[name])
        assert f"For example: {name}_URL=" in caught.value.hint


def test_a_stage_s_process_has_no_settings_that_let_it_act_as_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manual = "".join((ROOT / name).read_text() for name in (".env.example", "docs/security.md"))
    secret = set(re.findall(r"FTQ_(?:[A-Z]+_)+(?:URL|FILE|AUTH)\b", manual))
    secret.remove("FTQ_LLM_URL")  # an address, which prepare needs; its key is withheld from all other stages
    assert {"FTQ_FLOWER_AUTH", "FTQ_BROKER_KEY_FILE", "FTQ_DATABASE_URL"} <= secret
    needed = {"HF_TOKEN", "FTQ_LLAMA_SERVER", "FTQ_MEMORY_GB"}
    for name in secret | needed:
        monkeypatch.setenv(name, "x")
    shown = tmp_path / "shown"
    with shown.open("wb") as output:
        command = ["timeit", "-n1", "-r1", "import os; print(*os.environ)"]  # a module that runs what it is given
        process, pipe = spawn(command, output, 60, output.fileno())
        process.communicate(timeout=300)
        os.close(pipe)
    given = set(shown.read_text().split())
    assert needed <= given and not secret & given


def test_a_short_key_signs_nothing(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x" * 31)
    with pytest.raises(UserError, match="the key is shorter than 32 characters"):
        Settings.from_env({"FTQ_SIGNING_KEY_FILE": str(tmp_path / "key")})


@pytest.mark.parametrize("name", ["FTQ_BROKER_URL", "FTQ_DATABASE_URL"])
@pytest.mark.parametrize("url", ["redis://:s3/cr3t@host", "redis://:s3#cr3t@host", "redis://me:12/s3cr3t@host"])
def test_a_url_that_is_none_shows_nothing_of_its_password(name: str, url: str) -> None:
    with pytest.raises(UserError) as caught:
        Settings.from_env({name: url})
    assert "s3" not in caught.value.message + caught.value.hint
    assert f"{name.removesuffix('_URL')}_PASSWORD_FILE" in caught.value.hint


def test_errors_of_libraries_are_shown_without_passwords(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTQ_DATABASE_URL", "nonsense+driver://me:s3cr3t@host/db?password=s3cr3t")
    result = run("status")
    assert result.exit_code == 1 and "me:***@host" in result.output
    assert "s3cr3t" not in result.output
