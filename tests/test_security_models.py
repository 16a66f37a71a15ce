"""What comes with a model is data: no code of its own is run, no pickle is opened, and no name leads elsewhere."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftq.errors import UserError
from ftq.files.run_dir import STAGES, RunDir
from ftq.plan.plan import Plan
from ftq.spec import models
from tests import forked
from tests.tiny import CONFIG, make_run, make_tiny_model
from worker.stages.engine import load
from worker.stages.model import base_model
from worker.stages.model.check import convertible
from worker.stages.model.merge import check_adapter, merge

ROOT = Path(__file__).parents[1]


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Is there once somebody's code was run."""
    return tmp_path / "code was run"


def plant(folder: Path, mark: Path) -> None:
    """Code and pickles where the libraries look for them."""
    code = f"import os\nif not os.path.isdir({str(mark)!r}): os.mkdir({str(mark)!r})\n"
    (folder / "evil.py").write_text(f"{code}class Evil: ...\n")
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt", "model.pt"):
        (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    autos = {name: "evil.Evil" for name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM")}
    add(folder / "config.json", auto_map=autos)
    add(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})


def bare(folder: Path, **config: Any) -> Path:
    """What a checkpoint has at least, with no weight in its file."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


def add(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_model_that_needs_its_own_code_is_refused(tmp_path: Path, mark: Path) -> None:
    folder = bare(tmp_path / "model", model_type="evil")
    plant(folder, mark)
    with pytest.raises(UserError, match=r"^model .*/model needs code of its own \(auto_map in its config\.json\)"):
        base_model.resolve(str(folder))
    assert not mark.exists()


@pytest.mark.slow
@pytest.mark.parametrize("engine", [pytest.param("trl", marks=pytest.mark.long), "unsloth"])
def test_the_code_beside_a_known_model_is_ignored(tmp_path: Path, mark: Path, engine: str) -> None:
    """All of the stages on a model with traps: the tokenizer's, the model's, pickles of each kind. None goes off."""
    model = make_tiny_model(tmp_path / "model")
    plant(model, mark)
    options = {"engine": engine, "max_steps": 1, "r": 2, "max_seq_length": 64, "quantizations": ["f16"],
               "max_tokens": 4, "infer_with": "adapter"}  # fmt: skip
    run = RunDir(make_run(tmp_path / "run", model, **options))
    rows = [{"question": f"What is {n}?", "answer": f"{n} is a number."} for n in range(8)]
    (run.documents / "faq.json").write_text(json.dumps(rows))
    for stage in STAGES:
        command = [sys.executable, "-m", f"worker.stages.{stage}", str(run.path)]
        stack = engine if (stage, engine) == ("train", "unsloth") else "plain"
        done = forked.run(command, stack, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        if stage == "train":
            plant_pickles(run.adapter, mark)
    assert run.answers.is_file() and not mark.exists()
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        assert "auto_map" not in json.loads((run.merged / name).read_text())
    assert not [path.name for path in run.merged.iterdir() if path.suffix in (".py", ".bin", ".pt")]


def plant_pickles(adapter: Path, mark: Path) -> None:
    for name in ("adapter_model.bin", "pytorch_model.bin"):
        (adapter / name).write_bytes(pickle.dumps(Bomb(mark)))


@pytest.mark.slow
def test_the_traps_would_go_off(tmp_path: Path, mark: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    from transformers import AutoTokenizer

    folder = make_tiny_model(tmp_path / "model")
    plant(folder, mark)
    with contextlib.suppress(AttributeError):  # the class is no tokenizer, but its module was run
        AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert mark.exists()
    mark.rmdir()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert mark.exists()


def test_a_checkpoint_that_names_code_is_not_converted(tmp_path: Path, mark: Path) -> None:
    folder = bare(tmp_path / "model")
    plant(folder, mark)
    with pytest.raises(UserError, match=r"names code of its own \(auto_map\)"):
        convertible.convert(folder, tmp_path / "model.gguf", "f16")
    assert not mark.exists()


def test_pickled_weights_are_refused(tmp_path: Path, mark: Path) -> None:
    folder = bare(tmp_path / "model")
    plant_pickles(folder, mark)
    (folder / "model.safetensors").rename(folder / "unrelated.safetensors")
    for check in (models.check, base_model.resolve):
        with pytest.raises(UserError, match=r"no \*\.safetensors weights in it") as caught:
            check(str(folder))
        assert "ftq opens no pickle" in caught.value.hint
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):  # what from_pretrained itself does
        load._plain_base(folder, Plan("trl", False, "float32"))
    assert not mark.exists()


def test_a_pickled_adapter_is_refused(tmp_path: Path, mark: Path) -> None:
    plant_pickles(tmp_path, mark)
    with pytest.raises(UserError, match=r"has no adapter_model\.safetensors"):
        check_adapter(tmp_path)
    with pytest.raises(UserError, match=r"has no adapter_model\.safetensors"):
        merge(tmp_path, tmp_path, tmp_path / "merged", "</s>")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "weights.bin", "a/b.safetensors", 7, None])
def test_an_index_of_weights_names_files_beside_it(tmp_path: Path, name: Any) -> None:
    folder = bare(tmp_path / "model")
    (folder / "model.safetensors").unlink()  # where it is, the loader reads no index
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    for check in (models.check, base_model.resolve):
        with pytest.raises(UserError, match=r"index\.json: "):
            check(str(folder))


@pytest.mark.parametrize(
    "model",
    [
        "../x",
        "a/../b",
        "owner/name/more",
        "https://evil/x",
        "file:///etc",
        "owner/",
        "/nowhere",
        "a b/c",
        "o/n\n",
        "",
        ".",
    ],
)
def test_a_name_is_an_alias_a_hub_id_or_a_checkpoint(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for check in (models.check, base_model.resolve):
        with pytest.raises(UserError):
            check(model)


def test_a_folder_in_the_working_directory_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker takes a folder only by its path, as the run has it; where the worker was started says nothing."""
    bare(tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base_model, "_download", lambda *_: tmp_path / "owner" / "name" / ".." / "name")
    monkeypatch.setattr(base_model, "_in_hub_cache", lambda *_: None)
    assert ".." in base_model.resolve("owner/name").parts  # asked the hub


def test_no_library_is_told_to_trust_a_models_code() -> None:
    """What else could run what it reads is ruff's business: the rules S and TID251 in pyproject.toml."""
    sources = [path for folder in ("ftq", "cli", "worker") for path in ROOT.glob(f"{folder}/**/*.py")]
    words = [
        word for path in sources for word in ast.walk(ast.parse(path.read_text())) if isinstance(word, ast.keyword)
    ]
    values = [ast.unparse(word.value) for word in words if word.arg == "trust_remote_code"]
    assert values and set(values) == {"False"}


def test_the_linter_refuses_what_runs_what_it_reads() -> None:
    refused = {
        "exec(text)": "S102", "x.eval(1); eval(text)": "S307", "pickle.loads(data)": "S301", "import pickle": "TID251",
        "from shelve import open": "TID251", "torch.load(path)": "TID251", "yaml.load(text, yaml.Loader)": "S506",
        "yaml.unsafe_load(text)": "TID251", "os.system(text)": "S605", "subprocess.run(text, shell=True)": "S602",
        "tempfile.mktemp()": "S306", "marshal.loads(data)": "S302", "import tarfile": "TID251",
        "shutil.unpack_archive(path)": "TID251",
    }  # fmt: skip
    imports = "import marshal, os, pickle, shutil, subprocess, tempfile, torch, yaml"
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--output-format=json",
        "--stdin-filename=worker/x.py",
    ]
    source = "\n".join([imports, *refused])
    said = subprocess.run([*command, "-"], cwd=ROOT, input=source, capture_output=True, text=True).stdout
    rules = {(finding["location"]["row"], finding["code"]) for finding in json.loads(said)}
    assert {row for row in enumerate(refused.values(), 2)} - rules == set()
