"""Machines that lack what others have: a home folder, sockets, locks, modes, room; and processors that crash."""

from __future__ import annotations

import ast
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.drill_machine import tell
from ftq import start
from ftq.client.removal import Room
from ftq.doctor.findings import Finding
from ftq.doctor.machine import artifacts
from ftq.errors import FtqError, Unavailable
from ftq.files import abilities, run_dir
from ftq.files.run_dir import link_tree
from ftq.files.snapshot import snapshot
from ftq.settings import Settings, cache_dir, hub_cache
from ftq.store.store import RunStore
from tests.poor_disk import POOR, needs_landlock
from tests.tools import Bench, until
from worker.attempt import holders
from worker.host import broker, folders
from worker.stages.process.main import _explain_os_error

ROOT = Path(__file__).parents[1]
PYTHON = (sys.executable, "-c")


# ---- home folders and users -------------------------------------------------------------------------------


def settled(**environ: str) -> dict[str, str]:
    """The environment after `settle`, of a process of this user."""
    start.settle(environ)
    return environ


def test_a_home_that_can_be_written_stays(tmp_path: Path) -> None:
    assert settled(HOME=str(tmp_path), USER="me") == {"HOME": str(tmp_path), "USER": "me"}


@pytest.mark.parametrize("home", ["", "/nonexistent", "relative", "~"])
def test_without_a_home_the_artifacts_have_one(tmp_path: Path, home: str) -> None:
    environ = settled(HOME=home, FTQ_HOME=str(tmp_path), USER="me")
    if home == "" and os.path.isabs(os.path.expanduser("~")):
        return  # this user has one in the passwd file
    assert environ["HOME"] == str(tmp_path / ".home")
    assert not (tmp_path / ".home").exists()
    assert cache_dir({**environ, "FTQ_CACHE": f"{environ['HOME']}/.cache/ftq"}).is_relative_to(tmp_path)
    assert hub_cache({"XDG_CACHE_HOME": f"{environ['HOME']}/.cache"}).is_relative_to(tmp_path)


def test_models_in_a_home_that_is_only_read_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "me/.cache/huggingface/hub").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    environ = settled(HOME=str(tmp_path / "me"), FTQ_HOME=str(tmp_path), USER="me")
    assert hub_cache(environ) == tmp_path / "me/.cache/huggingface/hub"
    assert settled(HOME=str(tmp_path / "me"), XDG_CACHE_HOME="/c", USER="me").get("HF_HUB_CACHE") is None


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare")
def test_a_user_that_no_passwd_file_knows(tmp_path: Path) -> None:
    """As in OpenShift, and in `docker run --user`: no HOME, no USER, no name."""
    program = (
        "import getpass, os, sys; from ftq.start import settle; settle(); from pathlib import Path\n"
        "from ftq.settings import cache_dir; print(getpass.getuser(), Path.home(), cache_dir())"
    )
    as_nobody = ["unshare", "-U", "--map-user=12345", "--map-group=12345", "env", "-i", f"FTQ_HOME={tmp_path}",
                 f"PYTHONPATH={ROOT}"]  # fmt: skip
    done = subprocess.run([*as_nobody, *PYTHON, program], capture_output=True, text=True, cwd=tmp_path)
    if "unshare" in done.stderr:
        pytest.skip("this machine lets nobody have a user namespace")
    assert done.stdout == f"uid-12345 {tmp_path}/.home {tmp_path}/.home/.cache/ftq\n", done.stderr
    assert list(tmp_path.iterdir()) == []


# ---- disks ------------------------------------------------------------------------------------------------


def test_this_disk_has_all(tmp_path: Path) -> None:
    assert (abilities.refusal(tmp_path), abilities.no_lock(tmp_path), abilities.no_socket(tmp_path)) == ("", "", "")
    assert abilities.keeps_modes(tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_landlock
def test_a_disk_without_sockets(tmp_path: Path) -> None:
    """The embedded broker starts, on a socket that is elsewhere; who looks for it finds it."""
    home, temporary = tmp_path / "artifacts", Path(tempfile.mkdtemp(prefix="ftq"))  # a short path
    home.mkdir()
    program = (
        "from worker.host import broker; from ftq.settings import Settings; settings = Settings.from_env()\n"
        "broker.start(settings).terminate(); print(settings.broker_socket)"
    )
    done = subprocess.run([*POOR, "sockets", str(home), *PYTHON, program], capture_output=True, text=True,
                          env=os.environ | {"FTQ_HOME": str(home), "TMPDIR": str(temporary)}, cwd=ROOT)  # fmt: skip
    socket = Path(done.stdout.strip())
    assert done.returncode == 0 and socket.name == "valkey.sock" and socket.is_relative_to(temporary), done.stderr
    settings = Settings.from_env({"FTQ_HOME": str(home)})
    assert settings.broker_socket == socket and settings.broker == f"redis+socket://{socket}?virtual_host=0"
    assert broker.place(settings) == socket  # it stays where it is, though this process could put it beside the data
    shutil.rmtree(temporary)


@needs_landlock
def test_a_folder_for_temporary_files_without_sockets(tmp_path: Path) -> None:
    """llama.cpp listens on a socket of its own there."""
    folder = Path(tempfile.mkdtemp(prefix="ftq"))  # a short path
    program = "from worker.llama.server import _short_folder; print(_short_folder())"
    for wrapped, chosen in (([], "None"), ([*POOR, "sockets", str(folder)], "/tmp")):
        done = subprocess.run([*wrapped, *PYTHON, program], capture_output=True, text=True, cwd=ROOT,
                              env=os.environ | {"TMPDIR": str(folder)})  # fmt: skip
        assert done.stdout == f"{chosen}\n", done.stderr
    folder.rmdir()


@needs_landlock
@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        ("sockets", "note: {home} takes no Unix sockets (Permission denied)"),
        ("locks", "problem: no file in {home} can be locked (No locks available)"),
        ("modes", "warning: {home} is on a disk that keeps no modes"),
        ("links", ""),
    ],
)  # fmt: skip
def test_what_a_disk_lacks_is_said(tmp_path: Path, lacks: str, says: str) -> None:
    tmp_path.chmod(0o777 if lacks == "modes" else 0o700)
    program = (
        "from pathlib import Path; from ftq.doctor.machine import artifacts; import sys\n"
        "for one in artifacts(Path(sys.argv[1])): print(f'{one.level}: {one.message}')"
    )
    (tmp_path / "x").write_text("")
    command = [*POOR, lacks, str(tmp_path), *PYTHON, program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    lines = [line.rpartition(": ")[0] for line in done.stdout.splitlines() if not line.startswith("ok: ")]
    assert lines == ([says.format(home=tmp_path)] if says else []), done.stderr


@needs_landlock
@pytest.mark.parametrize("lacks", ["links", "modes"])
def test_files_are_put_in_place_on_a_disk_without(tmp_path: Path, lacks: str) -> None:
    """What a stage publishes and a cache hit takes over is whole without hard links, modes and synced folders."""
    made = tmp_path / "run" / "train.1.partial" / "adapter" / "deep"
    made.mkdir(parents=True)
    (made / "large").write_bytes(b"x" * 2**21)
    (made / "small").write_bytes(b"y")
    program = (
        "import sys; from pathlib import Path; from ftq.files.disk import make_home; from ftq.files.run_dir import *\n"
        "home = Path(sys.argv[1])\n"
        "run = RunDir(home / 'run'); run.publish('train', run.partial('train', 1))\n"
        "make_home(home, 0o077); write_json(run.run_json, {}); link_tree(run.adapter, home / 'copy')"
    )
    command = [*POOR, lacks, str(tmp_path), *PYTHON, program, str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT)
    for name, size in (("large", 2**21), ("small", 1)):
        assert (tmp_path / "copy" / "deep" / name).stat().st_size == size


def test_a_tree_is_linked_where_it_can_be(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "large").write_bytes(b"x" * 2**20)
    (source / "small").write_bytes(b"x")
    link_tree(source, tmp_path / "copy")
    link_tree(source / "small", tmp_path / "file")
    assert (tmp_path / "copy/deep/large").stat().st_nlink == 2
    assert (tmp_path / "copy/small").stat().st_nlink == 1 and (tmp_path / "file").read_bytes() == b"x"
    with pytest.raises(FileExistsError):
        link_tree(source, tmp_path / "copy")


def test_names_that_a_disk_cannot_tell_apart_are_left_out_and_said(tmp_path: Path) -> None:
    """exFAT, NTFS and macOS know no upper and lower case: the second document would replace the first."""
    documents, copy = tmp_path / "documents", tmp_path / "copy"
    documents.mkdir()
    copy.mkdir()
    for name in ("B.md", "a.md", "b.md"):
        (documents / name).write_text(f"# {name}\n")
    (copy / "b.md").write_text("what B.md would be on such a disk")
    taken = snapshot(documents, copy)
    assert taken.files == 2
    assert taken.skipped == [f"{documents}/b.md: the artifacts' disk can't tell its name from another document's"]


def test_a_name_that_a_disk_refuses_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "documents").mkdir()
    for name in ("a:b.md", "c.md"):
        (tmp_path / "documents" / name).write_text("# A\n")
    real = open

    def exfat(path: str, mode: str = "r", *arguments: object, **named: object) -> object:
        if ":" in str(path) and "x" in mode:
            raise OSError(22, "Invalid argument", str(path))
        return real(path, mode, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", exfat)
    taken = snapshot(tmp_path / "documents", tmp_path / "copy")
    refused = f"{tmp_path}/documents/a:b.md: its name can't be on the artifacts' disk (Invalid argument)"
    assert (taken.files, taken.skipped) == (1, [refused])


@pytest.mark.parametrize("left", [".fuse_hidden000000bc0000000e", ".nfs00000001"])
def test_a_file_in_use_that_a_disk_keeps_is_said(home: Path, monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    """FUSE and NFS rename an open file that is deleted; the folder can't be removed until it is closed."""
    leftover = home / ".aaaa1111.deleted"
    leftover.mkdir(parents=True)
    (leftover / left).write_text("")

    def not_empty(path: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))

    monkeypatch.setattr(run_dir, "remove", not_empty)
    with closing(RunStore(f"sqlite:///{home}/ftq.db")) as store, pytest.raises(Unavailable) as caught:
        Room(store, Settings.from_env({"FTQ_HOME": str(home)})).clear(leftover)
    assert caught.value.message == f"a file of {leftover} is in use ({left}): a worker may still have the model loaded"
    assert caught.value.hint.startswith("`ftq gc` deletes the rest")


# ---- folders that a worker writes -------------------------------------------------------------------------


Break = Callable[[Path, pytest.MonkeyPatch], None]


def _no_temporary(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/none']")

    monkeypatch.setattr(folders.tempfile, "gettempdir", none)


def _no_shared_memory(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> object:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", read_only)


@pytest.mark.parametrize(
    ("hurt", "says"),
    [
        (lambda home, _: home.write_text(""), "the artifacts folder {home} can't be written (File exists)"),
        (lambda home, _: (home.mkdir(), (home / "logs").write_text("")),
         "the logs' folder {home}/logs can't be written (File exists)"),
        (_no_temporary, "No usable temporary directory found in ['/none']"),
        (_no_shared_memory, "no semaphore can be made in /dev/shm (Read-only file system)"),
    ],
)  # fmt: skip
def test_a_worker_names_the_folder_that_it_needs(
    home: Path, monkeypatch: pytest.MonkeyPatch, hurt: Break, says: str
) -> None:
    hurt(home, monkeypatch)
    with pytest.raises(Unavailable) as caught:
        folders.try_all(Settings.from_env())
    assert caught.value.message == says.format(home=home) and caught.value.hint


def test_a_worker_says_which_cache_it_cannot_write(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for name in ("FTQ_CACHE", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "file" / name))
    folders.try_all(Settings.from_env())
    assert capsys.readouterr().err == (
        f"{tmp_path}/file/FTQ_CACHE can't be written (Not a directory): set FTQ_CACHE to a folder of yours.\n"
        f"{tmp_path}/file/HF_HUB_CACHE can't be written (Not a directory): set HF_HOME to a folder of yours.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["a b", "quote\"'s", "back\\slash", "new\nline", "#;50%20?b=c&d", "ä🔧", "\udcff", "x" * 90]
)
def test_an_artifacts_folder_of_any_name_has_a_broker_and_a_database(tmp_path: Path, name: str) -> None:
    settings = Settings.from_env({"FTQ_HOME": str(tmp_path / name)})
    process = broker.start(settings)
    try:
        assert broker.answers(settings.broker_socket)
        assert broker.refusal(settings) == ""  # by its URL
        RunStore(settings.database_url).close()
        assert (tmp_path / name / "ftq.db").is_file()
        assert (tmp_path / name / "broker" / "appendonlydir").is_dir()
    finally:
        process.terminate()
        process.wait(timeout=300)


def test_no_place_for_a_socket_names_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_env({"FTQ_HOME": str(tmp_path / "artifacts")})
    monkeypatch.setattr(broker, "no_socket", lambda folder: "Operation not supported")
    with pytest.raises(FtqError) as caught:
        broker.place(settings)
    first, *places = caught.value.message.splitlines()
    assert first == "there is no place for the embedded broker's socket"
    assert places[0] == f"{tmp_path}/artifacts/broker: Operation not supported" and len(places) > 1
    assert "TMPDIR" in caught.value.hint


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def test_the_doctor_says_nothing_of_a_disk_that_has_all(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert set(levels(list(artifacts(tmp_path)))) == {"ok"}


def test_no_text_is_read_or_written_in_the_encoding_of_the_machine() -> None:
    """LC_ALL=de_DE.ISO-8859-1 would read another text than it wrote, or none."""
    found = []
    for path in (file for room in ("ftq", "cli", "worker", "gateway") for file in (ROOT / room).rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            named = {word.arg: word.value for word in call.keywords}
            of_text = name in ("read_text", "write_text") or isinstance(named.get("text"), ast.Constant)
            if of_text and "encoding" not in named:
                found.append(f"{path.relative_to(ROOT)}:{call.lineno} {name}")
    assert found == []


@pytest.mark.parametrize(("number", "kind"), [(errno.EACCES, "user"), (errno.EROFS, "user"), (errno.EIO, "bug")])
def test_a_folder_that_a_stage_may_not_write_is_said_in_words(number: int, kind: str) -> None:
    error = _explain_os_error(OSError(number, os.strerror(number), "/cache/base.gguf"))
    assert error.kind == kind and "/cache/base.gguf" in error.message
    assert ("FTQ_CACHE" in error.hint) == (kind == "user")


# ---- clocks -----------------------------------------------------------------------------------------------

CLOCK = """import os, time
_real = time.time
time.time = lambda: _real() + float(open(os.environ["AHEAD"]).read())
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("seconds", "then"),
    [(8 * 3600, "power lost, cancelled"), (10 * 365 * 86_400, "power lost"), (-8 * 3600, "set right")],
)
def test_a_machine_whose_clock_was_wrong(tmp_path: Path, seconds: int, then: str) -> None:
    """Its run goes on, is cancelled, retried and deleted as on any machine once the clock is right again."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "sitecustomize.py").write_text(CLOCK)
    (tmp_path / "ahead").write_text(str(seconds))
    (tmp_path / "right").write_text("0")
    bench = Bench(tmp_path / "artifacts", FTQ_LEASE_SECONDS="3", AHEAD=str(tmp_path / "ahead"),
                  PYTHONPATH=f"{tmp_path}/fake:{ROOT}")  # fmt: skip
    try:
        bench.start_broker()
        worker = bench.start_worker()
        run = bench.submit("r", {"train": {"1": "wait"}}, max_steps=20)
        until(lambda: bench.stage_pid(bench.client.find("r")) and bench.client.find("r").stage("train").progress)
        if then != "set right":
            stage = bench.stage_pid(bench.client.find("r"))
            worker.signal(signal.SIGKILL)
            tell(stage, signal.SIGKILL)
            worker.process.wait()
            shutil.rmtree(bench.settings.home / holders.FOLDER)  # which a machine that starts anew doesn't believe
        (tmp_path / "right").replace(tmp_path / "ahead")
        if "cancelled" in then:
            bench.client.cancel("r")
        bench.let_go("r")
        bench.replace_the_dead()
        until(lambda: bench.client.find("r").is_finished)
        assert bench.client.find("r").status == ("cancelled" if "cancelled" in then else "succeeded")
        if "cancelled" in then:
            bench.client.retry("r")
            bench.client.cancel("r")
            until(lambda: bench.client.find("r").is_finished)
        bench.client.room.remove(bench.client.find(run.id))
        assert bench.client.all() == []
    finally:
        bench.close()
