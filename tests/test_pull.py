"""`ftq pull`: whole files under their names, checked, gone on with after a kill, and nothing of others touched."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from cli_tools import ok, run

from cli.common import Place
from cli.main import main
from ftq.client.client import Client
from ftq.delivery import card as cards
from ftq.delivery import copy as copying
from ftq.delivery.pull import Pulled
from ftq.errors import FtqError, Refused, Unavailable
from ftq.examples.report import DatasetReport
from ftq.files.export_report import ExportReport
from ftq.files.run_dir import RunDir
from ftq.settings import Settings
from ftq.spec.options import parse
from tests.finished import ADAPTER, GGUF, MERGED, MODELFILE, finished, sha256, write
from worker.stages.export.card import readme

MODEL, PART = "model-q4_k_m.gguf", "model-q4_k_m.gguf.part"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def pull(kind: str = "gguf", folder: Path | None = None) -> Pulled:
    client = Client(Settings.from_env())
    try:
        return client.models.pull(client.models.model("handbook:1", kind), folder)
    finally:
        client.close()


def card(kind: str) -> str:
    """The model card that comes along."""
    client = Client(Settings.from_env())
    try:
        return cards.card(client.models.model("handbook:1", kind)).decode()
    finally:
        client.close()


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_sums(files: dict[str, bytes | str]) -> dict[str, bytes]:
    """These files and their SHA256SUMS."""
    sums = "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files))
    return {name: text if isinstance(text, bytes) else text.encode() for name, text in files.items()} | {
        "SHA256SUMS": sums.encode()
    }


@pytest.mark.parametrize(
    ("kind", "files", "commands"),
    [
        (
            "gguf",
            {MODEL: GGUF["q4_k_m"], "Modelfile": MODELFILE},
            [
                "(cd handbook-v1 && ollama create handbook:1 -f Modelfile) && ollama run handbook:1",
                "llama-server -m handbook-v1/model-q4_k_m.gguf --jinja",
            ],
        ),
        (
            "gguf:q8_0",
            {
                "model-q8_0.gguf": GGUF["q8_0"],
                "Modelfile": MODELFILE.replace("./model-q4_k_m", "./model-q8_0"),
            },
            [
                "(cd handbook-v1 && ollama create handbook:1 -f Modelfile) && ollama run handbook:1",
                "llama-server -m handbook-v1/model-q8_0.gguf --jinja",
            ],
        ),
        (
            "adapter",
            ADAPTER,
            ["vllm serve owner/base --enable-lora --lora-modules handbook-1=handbook-v1-adapter"],
        ),
        ("merged", MERGED, ["vllm serve handbook-v1-merged", "transformers serve handbook-v1-merged"]),
    ],
)
def test_everything_that_a_kind_needs_comes_along(
    home: Path, here: Path, kind: str, files: dict[str, bytes | str], commands: list[str]
) -> None:
    finished(home)
    result = ok("pull", "handbook", "--as", kind)
    assert result.stdout.splitlines() == commands
    folder = here / ("handbook-v1" if kind.startswith("gguf") else f"handbook-v1-{kind}")
    assert tree(folder) == with_sums({**files, "README.md": card(kind)})
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_json_names_files_and_checksums(home: Path, here: Path) -> None:
    finished(home)
    answer = json.loads(ok("pull", "handbook:latest", "--as", "adapter", "--to", "there", "--json").stdout)
    texts = {**ADAPTER, "README.md": card("adapter")}
    assert answer == {
        "model": "handbook:1",
        "kind": "adapter",
        "folder": str(here / "there"),
        "files": [{"name": name, "bytes": len(text), "sha256": sha256(text)} for name, text in texts.items()],
        "commands": ["vllm serve owner/base --enable-lora --lora-modules handbook-1=there"],
    }


@pytest.mark.parametrize("recorded", [True, False])
def test_a_pull_that_was_killed_goes_on(
    home: Path, here: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    """The killed process has written three pieces; the next one writes only the others."""
    finished(home, recorded=recorded)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    program = (
        "import os, signal\nfrom ftq.delivery import copy\ncopy.COPIED_AT_ONCE, pieces = 1000, []\n"
        "from ftq.client.client import Client\nfrom ftq.settings import Settings\n"
        "def moved(number):\n    pieces.append(number)\n"
        "    if len(pieces) == 30: os.kill(os.getpid(), signal.SIGKILL)\n"
        "models = Client(Settings.from_env()).models\nmodels.pull(models.model('handbook'), None, moved)\n"
    )
    died = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    begun = here / "handbook-v1" / PART
    assert begun.stat().st_size > 0 and list(tree(here / "handbook-v1")) == [PART]
    inode = begun.stat().st_ino
    with begun.open("ab") as file:
        file.write(b"torn")
    pull()
    assert (here / "handbook-v1" / MODEL).stat().st_ino == inode
    assert tree(here / "handbook-v1") == with_sums(
        {
            MODEL: GGUF["q4_k_m"],
            "Modelfile": MODELFILE,
            "README.md": card("gguf"),
        }
    )


@pytest.mark.parametrize(
    ("begun", "first"),
    [
        (GGUF["q4_k_m"][:2500], 2000),  # the piece that is half there
        (GGUF["q4_k_m"], None),
        (GGUF["q4_k_m"] + b"more", None),
        (b"of another run", 0),
    ],
)
def test_what_is_there_of_a_file_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes, first: int | None
) -> None:
    """`first` is where the first piece is written."""
    offsets: list[int] = []

    class Watched(io.FileIO):
        def write(self, data: Any) -> int:
            offsets.append(self.tell())
            return super().write(data)

    monkeypatch.setattr(copying, "COPIED_AT_ONCE", 1000)
    (tmp_path / PART).write_bytes(begun)
    with Watched(tmp_path / PART, "r+") as out:
        digest = copying._copy(io.BytesIO(GGUF["q4_k_m"]), out, lambda number: None)  # type: ignore[arg-type]
    assert digest == sha256(GGUF["q4_k_m"]) == sha256((tmp_path / PART).read_bytes())
    assert (offsets[0] if offsets else None) == first


def test_an_adapter_for_llama_cpp_comes_along(home: Path, here: Path) -> None:
    write(finished(home), {"adapter.gguf": "GGUF adapter"})
    assert ok("pull", "handbook", "--as", "adapter").stdout.splitlines()[1:] == [
        "llama-server -m BASE.gguf --lora handbook-v1-adapter/adapter.gguf --jinja"
    ]
    files = {**ADAPTER, "adapter.gguf": "GGUF adapter"}
    assert tree(here / "handbook-v1-adapter") == with_sums({**files, "README.md": card("adapter")})


def test_a_second_pull_changes_nothing(home: Path, here: Path) -> None:
    finished(home)
    pull()
    before = {path: path.stat().st_ino for path in (here / "handbook-v1").iterdir() if path.name != "SHA256SUMS"}
    pull()
    assert {path: path.stat().st_ino for path in before} == before


@pytest.mark.parametrize("name", ["README.md", MODEL, "SHA256SUMS"])
def test_a_file_of_the_user_s_stays(home: Path, here: Path, name: str) -> None:
    finished(home)
    write(here, {name: "mine"})
    with pytest.raises(Refused) as caught:
        pull(folder=Path("."))
    assert caught.value.message == f". is in use: it has another {name}. Nothing was copied."
    assert caught.value.hint.startswith("Give a folder of its own: --to DIR. Or delete ")
    assert tree(here) == {name: b"mine"}


@pytest.mark.parametrize("kind", ["gguf:q8_0", "adapter", "merged"])
def test_a_folder_that_another_kind_lies_in_stays_as_it_is(home: Path, here: Path, kind: str) -> None:
    finished(home)
    pull(folder=Path("there"))
    before = tree(here)
    with pytest.raises(Refused, match=r"^there is in use: it has another (Modelfile|README.md). Nothing was copied.$"):
        pull(kind, Path("there"))
    assert tree(here) == before


def test_where_nothing_can_be_put_is_said(home: Path, here: Path) -> None:
    folder = finished(home)
    (here / "file").write_text("")
    asked = {"": "Invalid value for '--to': the name is empty", " ": "Invalid value for '--to': the name is empty",
             "file": "file is no folder",
             str(folder): f"{folder} is in the artifacts folder, where only ftq puts files"}  # fmt: skip
    for to, message in asked.items():
        failed = run("pull", "handbook", "--to", to)
        assert failed.exit_code and f"Error: {message}" in failed.stderr
    assert tree(here) == {"file": b""} and "SHA256SUMS" not in tree(folder)


def test_no_option_that_names_a_place_takes_an_empty_name() -> None:
    """Else a variable that isn't set means the current folder."""
    for command in main.commands.values():
        for option in command.params:
            if isinstance(option, click.Option) and isinstance(option.type, click.Path) and option.name != "documents":
                assert isinstance(option.type, Place), f"{command.name} {option.name}"


@pytest.mark.parametrize(("umask", "file", "folder"), [("022", 0o644, 0o755), ("027", 0o640, 0o750)])
def test_what_is_put_elsewhere_is_as_open_as_the_user_s_other_files(
    home: Path, here: Path, umask: str, file: int, folder: int
) -> None:
    finished(home)
    write(here / "docs", {"a.md": "# A\n\nThe text of it.\n"})
    commands = ["pull handbook --as merged --to out", "report handbook --to out/r.html", "check docs --html out/c.html",
                "report handbook"]  # fmt: skip
    program = f"from cli.main import main\nfor one in {commands}: main(one.split(), standalone_mode=False)"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True, umask=int(umask, 8))
    modes = {path.relative_to(here).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in (here / "out").rglob("*")}
    assert {"out/tokenizer/vocab.json", "out/SHA256SUMS", "out/r.html", "out/c.html"} < set(modes)
    assert set(modes.values()) == {file, folder} and modes["out/tokenizer"] == folder
    assert stat.S_IMODE((home / "aaaa1111" / "report.html").stat().st_mode) == 0o600


def test_each_kind_has_the_card_that_holds_for_it(home: Path, here: Path) -> None:
    """Of the card that the export really writes."""
    folder = finished(home)
    write(folder, {"metrics.jsonl": '{"step": 3, "train_loss": 1.5}\n'})
    spec = parse({"model": "qwen3-4b", "quantizations": ["q4_k_m", "q8_0"]})
    report = DatasetReport(max_seq_length=64, stop="</s>", examples=3, train=3)
    text = readme(RunDir(folder), spec, report, ExportReport.read(folder))
    write(folder, {"README.md": text})
    made = {kind: card(kind) for kind in ("gguf:q8_0", "gguf", "adapter", "merged")}
    heads = {kind: yaml.safe_load(text.split("---")[1]) for kind, text in made.items()}
    assert [(head["library_name"], head["base_model_relation"], head["tags"]) for head in heads.values()] == [
        ("gguf", "quantized", ["ftq", "lora", "gguf"]), ("gguf", "quantized", ["ftq", "lora", "gguf"]),
        ("peft", "adapter", ["ftq", "lora"]), ("transformers", "finetune", ["ftq", "lora"]),
    ]  # fmt: skip
    named = {kind: set(re.findall(r"model-\w+\.gguf|Modelfile|ollama|vllm|transformers serve", text.split("---", 2)[2]))
             for kind, text in made.items()}  # fmt: skip
    assert named == {
        "gguf:q8_0": {"model-q8_0.gguf", "Modelfile", "ollama"}, "gguf": {"model-q4_k_m.gguf", "Modelfile", "ollama"},
        "adapter": {"vllm"}, "merged": {"vllm", "transformers serve"},
    }  # fmt: skip
    after = text[text.index("## Data") :]
    assert all(text.endswith(after) and text.count("## Ask it") == 1 for text in made.values())
    told = made["merged"].split("## Ask it")[1].split("## Data")[0]
    assert told == (
        "\n\n```sh\nvllm serve .\ntransformers serve .\n```\n\n"
        "The prompt is `Instruction: QUESTION, Input: CONTEXT, Response:` (the context may be empty); the answer ends "
        "with `</s>`. It is stored in the tokenizer as its chat template.\n\n"
    )


def test_a_system_message_goes_out_as_the_model_has_seen_it(home: Path, here: Path) -> None:
    modelfile = 'FROM ./model-q4_k_m.gguf\r\nSYSTEM """Be kind.\r\nBe brief\rand \u2028 clear."""\n'
    (finished(home) / "Modelfile").write_bytes(modelfile.encode())
    pull("gguf:q8_0", here / "out")
    shipped = (here / "out" / "Modelfile").read_bytes().decode()
    assert shipped == modelfile.replace("q4_k_m", "q8_0").replace("gguf\r\n", "gguf\n")


def test_a_damaged_file_never_gets_its_name(home: Path, here: Path) -> None:
    folder = finished(home)
    with (folder / MODEL).open("r+b") as file:
        file.seek(5000)
        file.write(b"X")
    with pytest.raises(FtqError) as caught:
        pull()
    assert caught.value.message == f"{folder / MODEL} is damaged: its SHA-256 isn't the one that the export recorded"
    assert caught.value.hint.startswith("`ftq retry handbook --from export` makes it anew.")
    assert tree(here) == {}


def test_checksums_that_cannot_be_read_are_not_taken_for_none(home: Path, here: Path) -> None:
    (finished(home) / "export.json").write_text('{"ggufs": [')
    assert "export.json can't be read: " in run("pull", "handbook").stderr
    assert tree(here) == {}


def test_the_disk_is_asked_first(home: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(home)
    need = sum(map(len, [GGUF["q4_k_m"], MODELFILE, card("gguf")]))
    usage = shutil.disk_usage(here)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=need - 1))
    with pytest.raises(
        Unavailable, match=r"^pulling handbook:1 needs 0\.00 GB in deep/er, but only 0\.00 GB are free$"
    ):
        pull(folder=Path("deep/er"))
    assert tree(here) == {}
    write(here / "deep" / "er", {PART: "G"})  # what is there already needs no room
    pull(folder=Path("deep/er"))


def test_two_pulls_into_one_folder(home: Path, here: Path) -> None:
    finished(home)
    write(here / "handbook-v1", {PART: ""})
    with (here / "handbook-v1" / PART).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Refused, match=r"^another pull writes handbook-v1/model-q4_k_m.gguf.part$"):
            pull()


def test_a_folder_that_cannot_be_written(home: Path, here: Path) -> None:
    finished(home)
    (here / "file").write_text("")
    result = run("pull", "handbook", "--to", "file/below")
    assert result.exit_code == 1 and "can't be used (Not a directory)" in result.output


@pytest.mark.parametrize(
    ("kind", "gone", "done", "message"),
    [
        ("gguf:f16", "", 4, "run handbook has no f16, it has q4_k_m, q8_0"),
        ("gguf", "", 2, "run handbook has no gguf yet: its stage export waits"),
        ("adapter", "", 1, "run handbook has no adapter yet: its stage train waits"),
        ("merged", "merged", 4, "run handbook has no merged/: it was told not to keep it (keep_merged=false)"),
        ("gguf", "model-*.gguf", 4, "run handbook has no GGUF file"),
        ("gguf:q8", "", 4, "unknown quantisation q8. Did you mean q8_0?"),
        ("merge", "", 4, "no kind of model merge. Did you mean merged?"),
        ("adapter:q8_0", "", 4, "no kind of model adapter:q8_0."),
    ],
)
def test_what_there_is_not(home: Path, here: Path, kind: str, gone: str, done: int, message: str) -> None:
    folder = finished(home, done=done)
    for path in folder.glob(gone) if gone else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    result = run("pull", "handbook", "--as", kind)
    assert result.stderr.splitlines()[0].startswith(f"Error: {message}")
    assert result.exit_code == (2 if message.startswith(("no kind of", "unknown")) else 1)
    assert tree(here) == {}
