"""After a real run no secret stands anywhere, and nobody else may read what was written."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from brokers import SecuredBroker, need_tls
from tiny import make_run, make_tiny_model

from ftq.servers import NOT_FOR_STAGES
from tests.tools import PATIENCE, Bench, free_port, until

ROOT = Path(__file__).parent.parent
FTQ = [sys.executable, "-c", "from cli.main import main; main()"]
NAMES = ("HF_TOKEN", "WANDB_API_KEY", "FLOWER", "DATABASE")
SECRETS = {name: f"{name.lower()}-Secret-0123456789abcdef" for name in NAMES}


class World:
    """A secured broker, a database with a password, a worker, Flower and a client, and everything that they said."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.broker = SecuredBroker(folder / "broker")
        self.secrets = SECRETS | {user: self.broker.password(user) for user in ("client", "worker", "flower", "admin")}
        self.secrets["signing"] = (self.broker.folder / "signing.key").read_text().strip()
        (folder / "database.password").write_text(SECRETS["DATABASE"])
        (folder / "flower.auth").write_text(f"me:{SECRETS['FLOWER']}\n")
        self.said: dict[str, str] = {}  # where -> what was found there
        self.machine = Bench(
            folder / "artifacts", FTQ_DATABASE_URL=database,
            FTQ_DATABASE_PASSWORD_FILE=str(folder / "database.password"), **self.broker.environment("worker"),
            FTQ_FLOWER_AUTH_FILE=str(folder / "flower.auth"), FTQ_FLOWER_STATE=str(folder / "flower.db"),
            HF_TOKEN=SECRETS["HF_TOKEN"], WANDB_API_KEY=SECRETS["WANDB_API_KEY"],
        )  # fmt: skip
        self.port = free_port()
        self.flower: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._watch_commands, self._listen)]
        for thread in self._threads:
            thread.start()

    def ftq(self, *arguments: str, **environment: str) -> str:
        """What the client prints, with the client's own rights."""
        given = self.machine.environment | self.broker.environment("client") | environment
        command = [*FTQ, *arguments]
        done = subprocess.run(command, env=given, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
        self.say("client", done.stdout + done.stderr)
        return done.stdout + done.stderr

    def start_flower(self) -> None:
        command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", f"--port={self.port}",
                   f"--conf={ROOT / 'worker' / 'flower' / 'config.py'}"]  # fmt: skip
        environment = self.machine.environment | self.broker.environment("flower")
        with (self.machine.logs / "flower.log").open("wb") as log:
            self.flower = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        until(lambda: self.page("/workers"))

    def page(self, path: str) -> str:
        login = base64.b64encode(f"me:{SECRETS['FLOWER']}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Basic {login}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return self.say(f"Flower {path}", answer.read().decode())
        except urllib.error.HTTPError as error:
            return self.say(f"Flower {path}", error.read().decode())
        except (urllib.error.URLError, ConnectionError):
            return ""

    def say(self, where: str, text: str) -> str:
        self.said[where] = self.said.get(where, "") + text
        return text

    def dump_broker(self) -> None:
        """Every key and value, read by the administrator."""
        read: dict[str, Callable[[Any, bytes], Any]] = {
            "list": lambda db, key: db.lrange(key, 0, -1), "hash": lambda db, key: db.hgetall(key),
            "set": lambda db, key: db.smembers(key), "string": lambda db, key: db.get(key),
            "zset": lambda db, key: db.zrange(key, 0, -1, withscores=True),
        }  # fmt: skip
        with self.broker.connect("admin") as db:
            for key in db.keys("*"):
                value = str(read[db.type(key).decode()](db, key))
                self.say("broker", f"{key!r} {value} {decoded(value)}")

    def dump_database(self) -> None:
        metadata = sa.MetaData()
        metadata.reflect(self.machine.client.store.engine)
        with self.machine.client.store.engine.connect() as db:
            for table in metadata.sorted_tables:
                self.say("database", "\n".join(str(row) for row in db.execute(table.select())))

    def dump_files(self) -> None:
        for folder in (self.machine.settings.home, self.machine.logs, self.broker.folder / "appendonlydir"):
            for path in folder.rglob("*"):
                if path.is_file():
                    self.say(f"file {path.relative_to(self.folder)}", path.read_bytes().decode("latin-1"))

    def found(self) -> list[tuple[str, str]]:
        """(secret's name, where it stands)"""
        return sorted(
            (name, where) for where, text in self.said.items() for name, value in self.secrets.items() if value in text
        )

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self.flower:
            self.flower.terminate()
            self.flower.wait(timeout=PATIENCE)
        self.machine.close()
        self.broker.close()

    def _watch_commands(self) -> None:
        """What anybody on the machine sees with `ps`."""
        while not self._ended.wait(0.05):
            for process in psutil.process_iter(["cmdline"]):
                line = " ".join(process.info["cmdline"] or [])
                if line not in self.said.get("ps", ""):
                    self.say("ps", f"{line}\n")

    def _listen(self) -> None:
        """Events, control commands and their answers never stay in the broker: hear them as they pass."""
        with self.broker.connect("admin") as db:
            heard = db.pubsub()
            heard.psubscribe("*")
            while not self._ended.is_set():
                message = heard.get_message(timeout=0.2)
                text = str(message["data"]) if message else ""
                self.say("events", f"{text} {decoded(text)}")
            heard.close()


def decoded(text: str) -> str:
    """What stands in base64 in it, as kombu packs the bodies of messages."""
    found = [part for part in re.findall(r"[A-Za-z0-9+/]{16,}", text) if len(part) % 4 != 1]
    return " ".join(base64.b64decode(part + "=" * (-len(part) % 4)).decode("latin-1") for part in found)


@pytest.fixture
def world(tmp_path: Path, postgres: str) -> Iterator[World]:
    need_tls()
    world = World(tmp_path, postgres)
    yield world
    world.close()


def documents(folder: Path, **behave: Any) -> Path:
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nText.\n")
    (folder / "behave.json").write_text(json.dumps(behave))
    return folder


@pytest.mark.long
def test_no_secret_stands_anywhere_after_a_run(world: World, tmp_path: Path) -> None:
    good, bad = (documents(tmp_path / name, train={"1": how}) for name, how in (("good", "wait"), ("bad", "bug")))
    submit = ["submit", "--model", "smollm2-135m", "--documents"]
    world.ftq(*submit, str(good), "--name", "good")
    world.ftq(*submit, str(bad), "--name", "bad")
    world.dump_broker()
    worker = world.machine.start_worker()
    world.start_flower()
    given = until(lambda: process_environment(world.machine))
    until(lambda: world.machine.client.find("good").id in world.said.get("ps", ""))  # it has been looked at
    world.machine.let_go("good")
    until(lambda: all(run.is_finished for run in world.machine.client.all()))
    assert {run.name: run.status for run in world.machine.client.all()} == {"good": "succeeded", "bad": "failed"}

    run = world.machine.client.find("good")
    for path in ("/", "/workers", "/tasks", "/broker", "/metrics", f"/worker/{worker.name}", f"/task/{run.id}.train.1",
                 "/api/workers?refresh=1", "/api/tasks", f"/api/task/info/{run.id}.train.1"):  # fmt: skip
        world.page(path)
    for command in (["status", "--json"], ["status", "good"], ["events", "bad"], ["logs", "bad"], ["logs", "good"]):
        world.ftq(*command)
    (tmp_path / "wrong.password").write_text("wrong")
    wrong = str(tmp_path / "wrong.password")
    refused = world.ftq(*submit, str(good), "--set", "seed=1", FTQ_BROKER_PASSWORD_FILE=wrong)
    assert "The broker refuses the user or password." in refused
    nowhere = "postgresql+psycopg://ftq@127.0.0.1:1/x"
    assert "can't be used" in world.ftq("status", FTQ_DATABASE_URL=nowhere)
    assert "can't be used" in world.ftq("status", FTQ_DATABASE_URL="nonsense://ftq@h/x", FTQ_DEBUG="")
    world.dump_broker()
    world.dump_database()
    world.dump_files()

    assert world.found() == []
    assert {"client", "broker", "database", "events", "ps", "Flower /tasks", "file logs/flower.log"} <= set(world.said)
    for where in ("broker", "database", "events", "ps"):
        assert run.id in world.said[where], where  # looked in the right place
    assert given["HF_TOKEN"] == SECRETS["HF_TOKEN"]  # a stage may need it
    assert not set(NOT_FOR_STAGES) & set(given)


def process_environment(machine: Bench) -> dict[str, str]:
    """That of the stage at work; empty if there is none, or it has just ended."""
    pid = machine.stage_pid(machine.client.find("good"))
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).environ() if pid else {}
    return {}


@contextlib.contextmanager
def all_at_work(folder: Path, umask: int, **environment: str) -> Iterator[Bench]:
    """A client, a worker and an embedded broker that have done a run, all started with this umask."""
    before = os.umask(umask)
    machine = Bench(folder / "artifacts", **environment)
    try:
        submit = [*FTQ, "submit", "--model", "smollm2-135m", "--json"]
        text = str(documents(folder / "documents"))
        subprocess.run([*submit, "--documents", text], env=machine.environment, cwd=ROOT, check=True, stdout=-3)
        machine.start_broker()
        machine.start_worker()
        until(lambda: [run.status for run in machine.client.all()] == ["succeeded"])
        yield machine
    finally:
        os.umask(before)
        machine.close()


def modes_below(home: Path) -> dict[Path, int]:
    """Of all files and folders, but for those that their owners delete meanwhile."""
    modes = dict[Path, int]()
    for path in [home, *home.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):
            modes[path] = path.lstat().st_mode
    return modes


@pytest.mark.slow
def test_all_that_is_written_is_closed_to_others(tmp_path: Path) -> None:
    """Client, worker, embedded broker, SQLite and a real prepare, all started with the usual umask."""
    with all_at_work(tmp_path, 0o022) as machine:
        home = machine.settings.home
        by_hand = make_run(home / "byhand", make_tiny_model(tmp_path / "tiny"), max_seq_length=128)
        for folder in (by_hand, by_hand / "documents"):
            folder.chmod(0o700)  # this test made them
        (by_hand / "run.json").chmod(0o600)
        prepare = [sys.executable, "-m", "worker.stages.prepare", str(by_hand)]
        (by_hand / "documents" / "a.md").write_text("# A\n\nText.\n")
        (by_hand / "documents" / "a.md").chmod(0o600)
        subprocess.run(prepare, env=machine.environment, cwd=ROOT, check=True, capture_output=True)
        found = modes_below(home)
        open_to_others = [str(path) for path, mode in found.items() if mode & 0o077]
        names = {path.name for path in found}
    assert open_to_others == []
    assert {"ftq.db", "ftq.db-wal", "ftq.db-shm", "run.json", "a.md", "train.jsonl", "report.json", "steps.json",
            "model-q4_k_m.gguf", "train.log", "valkey.sock", "valkey.conf", "appendonlydir"} <= names  # fmt: skip
    assert all(stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode) for mode in found.values())


@pytest.mark.long
def test_a_team_shares_the_folder_by_its_group(tmp_path: Path) -> None:
    with all_at_work(tmp_path, 0o007, FTQ_UMASK="007") as machine:  # the umask that `ftq up` sets for a broker
        home = machine.settings.home
        modes = {
            path: mode
            for path, mode in modes_below(home).items()
            if not path.is_relative_to(home / "broker" / "appendonlydir")
        }
        folders = {mode & 0o777 for mode in modes.values() if stat.S_ISDIR(mode)}
        files = {
            path.name: oct(mode & 0o777)
            for path, mode in modes.items()
            if stat.S_ISREG(mode) and path.parent != home / "broker"
        }
        socket = modes[machine.settings.broker_socket] & 0o777
    assert (folders, socket) == ({0o770}, 0o770)
    assert set(files.values()) == {"0o660"}, files
