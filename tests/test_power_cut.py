"""What was said to be done is on the disk: a power cut a moment later loses nothing of it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from power_cut import Disk

from ftq.client.client import Client
from ftq.files import run_dir
from ftq.files.run_dir import RunDir
from ftq.settings import Settings
from ftq.store.store import RunStore
from tests.tools import PATIENCE
from worker.stages.train import checkpoints


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    client = Client(Settings.from_env({"FTQ_HOME": str(home)}))
    yield client
    client.close()


def test_the_disk_forgets_what_was_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").write_text("old")
    disk = Disk(tmp_path, monkeypatch)
    (tmp_path / "old").write_text("new")
    (tmp_path / "beside").write_text("1")
    assert disk.after_power_cut() == {"old": "old"}
    os.replace(tmp_path / "beside", tmp_path / "in place")
    run_dir.sync(tmp_path)
    assert (disk.after_power_cut(), disk.too_early) == ({"old": "old", "in place": ""}, ["beside"])
    run_dir.sync(tmp_path / "in place")
    assert disk.after_power_cut() == {"old": "old", "in place": "1"}


def test_what_is_published_is_on_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path)
    (run.dataset / "deep").mkdir(parents=True)
    (run.dataset / "old").write_text("old")
    disk, partial = Disk(tmp_path, monkeypatch), run.partial("prepare", 1)
    (partial / "dataset" / "deep").mkdir(parents=True)
    for name in ("train.jsonl", "deep/er"):
        (partial / "dataset" / name).write_text(name)
    run.publish("prepare", partial)
    left = {name: text for name, text in disk.after_power_cut().items() if not name.startswith(partial.name)}
    assert (disk.too_early, left) == ([], {"dataset/train.jsonl": "train.jsonl", "dataset/deep/er": "deep/er"})


def test_a_sealed_checkpoint_is_on_the_disk_with_its_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, run = Disk(tmp_path, monkeypatch), RunDir(tmp_path)
    path = run.checkpoints / "1" / "checkpoint-3"
    (path / "deep").mkdir(parents=True)
    (run.checkpoints / "1" / "metrics.jsonl").write_text("lines")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": 3}))
    (path / "deep" / "adapter_model.safetensors").write_text("weights")
    checkpoints.seal(path, "mark", {})
    here = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    assert (disk.too_early, disk.after_power_cut()) == ([], here)
    assert len(here) == 4


def test_a_seal_is_never_there_before_what_it_seals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, sync, path = Disk(tmp_path, monkeypatch), run_dir.sync, tmp_path / "checkpoints" / "1" / "checkpoint-3"
    path.mkdir(parents=True)
    (path / "weights").write_text("weights")
    run_dir.sync_tree(tmp_path)
    (path / "weights").write_text("more weights")

    def check(synced: Path) -> None:
        sync(synced)
        left = disk.after_power_cut()
        assert "checkpoints/1/checkpoint-3/ftq.json" not in left or "more weights" in left.values()

    monkeypatch.setattr(run_dir, "sync", check)
    checkpoints.seal(path, "mark", {})
    assert "checkpoints/1/checkpoint-3/ftq.json" in disk.after_power_cut()


def test_of_json_there_is_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir.write_json(tmp_path / "x.json", 1)
    disk, sync, left = Disk(tmp_path, monkeypatch), run_dir.sync, list[str | None]()

    def look(synced: Path) -> None:
        left.append(disk.after_power_cut().get("x.json"))
        sync(synced)
        left.append(disk.after_power_cut().get("x.json"))

    monkeypatch.setattr(run_dir, "sync", look)
    run_dir.write_json(tmp_path / "x.json", 2)
    assert (disk.too_early, left) == ([], ["1\n", "1\n", "1\n", "2\n"])


def test_a_run_is_recorded_when_its_files_are_on_the_disk(
    client: Client, documents: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (documents / "deep").mkdir()
    (documents / "deep" / "c.md").write_text("# C\n\nMore.\n")
    disk, create, left = Disk(home, monkeypatch), RunStore.create, dict[str, str]()

    def recorded(*given: Any) -> Any:
        left.update(disk.after_power_cut())
        return create(*given)

    monkeypatch.setattr(RunStore, "create", recorded)
    run = client.submit({"model": "smollm2-135m", "documents": str(documents)}).run
    names = {"run.json", "documents/a.md", "documents/b.json", "documents/deep/c.md"}
    files = {f"{run.id}/{name}": client.run_dir(run.id).path.joinpath(name).read_text() for name in names}
    assert (disk.too_early, {name: text for name, text in left.items() if name.startswith(run.id)}) == (
        [], {**files, f"{run.id}/.submitting": ""},
    )  # fmt: skip
    assert {path.name for path in client.run_dir(run.id).path.iterdir()} == {"run.json", "documents"}


def test_what_the_database_has_committed_is_on_the_disk(client: Client) -> None:
    with client.store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL: one sync for each commit


def test_who_waits_for_gigabytes_is_called_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").write_text("1")
    called = threading.Event()
    monkeypatch.setattr(run_dir, "SYNC_SECONDS", 0.01)
    monkeypatch.setattr(os, "fsync", lambda descriptor: called.wait(PATIENCE))
    run_dir.sync_tree(tmp_path, called.set)
    assert called.is_set()


def test_a_disk_that_fails_says_so_but_not_one_that_syncs_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("1")

    def refuse(descriptor: int) -> None:
        if os.path.isdir(os.readlink(f"/proc/self/fd/{descriptor}")):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    run_dir.sync_tree(tmp_path)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        run_dir.sync_tree(tmp_path)
