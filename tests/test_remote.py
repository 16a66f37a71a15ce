"""Every command through `ftq serve`: the same output as over the database, from where nothing else is reached."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_tools import Store, run
from click.testing import Result

from ftq.client.remote.connection import Connection
from ftq.errors import RunError, Unavailable
from ftq.examples.report import DatasetReport, TokenCounts
from ftq.files.artifact import Artifact
from ftq.files.run_dir import STAGES, write_json, write_jsonl
from tests import finished
from tests.gateway_tools import make_gateway, serving

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclass
class Both:
    """The same runs twice: in a home of this machine, and behind a server."""

    direct: Path
    served: Path
    url: str
    app: object
    through: Callable[..., Result]

    def outputs(self, *arguments: str, stdin: str | None = None) -> tuple[tuple[object, ...], tuple[object, ...]]:
        """(exit code, standard output, standard error) of both, with the places taken out."""
        over = run(*arguments, stdin=stdin)
        through = self.through(*arguments, stdin=stdin)
        return self._plain(over), self._plain(through)

    def _plain(self, result: Result) -> tuple[object, ...]:
        texts = (result.stdout, result.stderr)
        for place in (str(self.direct), str(self.served), self.url):
            texts = tuple(text.replace(place, "PLACE") for text in texts)
        texts = tuple(re.sub(r'(?:[^\s"]*/)?cache/remote/[^/\s"]+|\bartifacts(?=/)', "PLACE", text) for text in texts)
        texts = tuple(re.sub(r"\b[a-z2-9]{8}\b(?=  handbook|  own|\")", "ID", text) for text in texts)
        return (result.exit_code, *(re.sub(NUMBERS, r"\1N", text) for text in texts))


def fill(home: Path) -> None:
    """Runs in every state; `handbook` has succeeded, with all its files."""
    folder = finished.finished(home)
    (folder / "logs").mkdir()
    for stage in STAGES:
        (folder / "logs" / f"{stage}.log").write_bytes(f"{stage} says \xe4\n".encode() * 3)
    (folder / "answers.jsonl").write_text('{"prompt": "Why?", "answer": "So."}\n')
    store = Store(home)
    store.add("bbbb2222", "waits", ago=500)
    at_work = store.add("cccc3333", "works", ago=400)
    store.do(at_work, "prepare", 390, artifacts=[Artifact("dataset", "dataset", 20)])
    store.train(at_work, 300, 5)
    store.add("dddd4444", "broke", ago=300)
    store.fail("dddd4444", "prepare", 200, RunError("user", "no documents", "Put some there."))
    store.add("eeee5555", "paused", ago=250)
    store.at(240).pause("eeee5555")
    store.at(5).see_worker("box", "box", ["cpu", "gpu"], "NVIDIA", 1, {"gpus": 1, "gpu": "NVIDIA", "memory": 2**34})
    store.runs.close()


@contextmanager
def far_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, secret: str) -> Iterator[None]:
    """The environment of a laptop: neither home nor broker nor database exist for it."""
    with monkeypatch.context() as patch:
        patch.setenv("FTQ_HOME", str(tmp_path / "nowhere" / "artifacts"))
        patch.setenv("FTQ_BROKER_URL", "redis://127.0.0.1:1/0")
        patch.setenv("FTQ_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        patch.setenv("FTQ_SERVER", url)
        patch.setenv("FTQ_KEY", secret)
        yield
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture
def both(home: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, utc: None) -> Iterator[Both]:
    fill(home)
    served = tmp_path / "served"
    shutil.copytree(home, served)
    app, secret = make_gateway(served)
    with serving(app) as url:

        def through(*arguments: str, stdin: str | None = None) -> Result:
            with far_away(monkeypatch, tmp_path, url, secret):
                return run(*arguments, stdin=stdin)

        yield Both(home, served, url, app, through)


LINES = [
    "status", "status --all", "status --json", "status handbook", "status handbook --json", "status works",
    "status broke --json", "status handbook --watch", "status nobody", "status handbook:latest", "status handbook:7",
    "logs handbook", "logs handbook --stage train", "logs waits", "logs waits --stage ask", "logs broke -f",
    "events handbook", "events handbook --json", "events broke -f", "events works",
    "cancel waits", "cancel handbook", "cancel works", "pause waits", "pause paused", "pause broke", "resume paused",
    "resume handbook", "retry broke", "retry handbook", "retry handbook --from train", "retry works",
    "infer handbook hello", "infer waits hello", "infer handbook hello --quant q2_k", "infer handbook --base hello",
    "eval handbook", "eval waits", "eval handbook --questions missing.json", "compare handbook works",
    "compare handbook works --json", "report handbook --to report.html", "report handbook", "report broke --to .",
    "models --tuned", "models --tuned --json", "models", "promote handbook", "promote waits", "options --json",
    "pull handbook", "pull handbook --json", "pull handbook --as gguf:q8_0 --to model",
    "pull handbook --as adapter --to adapter", "pull handbook --as merged --to merged --json", "pull waits",
    "pull handbook --as gguf:q2_k", "pull handbook --as wrong", "keep handbook", "keep handbook --undo",
    "rm broke --yes", "rm works --yes", "rm handbook waits --yes", "gc --last 0 --dry-run", "gc --last 0 --yes",
    "gc --last 9", "workers", "workers --json", "workers drain box", "workers drain nobody box no",
    "workers undrain box", "workers undrain box nobody", "workers forget box", "workers forget nobody",
    "check", "check --json", "submit --model smollm2-135m --name handbook",
    "submit --model smollm2-135m --name fresh --json", "submit --model smollm2-135m --documents nowhere",
    "submit --model smollm2-13m --set epochs=-1", "submit --model smollm2-135m --dry-run",
    "submit --model smollm2-135m --name handbook --dry-run", "submit --model smollm2-135m --dry-run --json --card 24",
    "submit --model smollm2-135m --set validation=documents --set questions_file=questions.json --name own",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_a_command_says_the_same_through_the_server(both: Both, documents: Path, line: str) -> None:
    documents.with_name("questions.json").write_text('[{"question": "Why?", "answers": ["So"]}]')
    over, through = _in_folders(both, documents, line.split())
    assert through == over
    assert "Traceback" not in str(over) and "this shouldn't happen" not in str(over)


def test_a_check_counts_the_tokens_as_the_servers_runs_had_them(
    both: Both, documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the model's tokenizer isn't on this machine. Without the server they are guessed."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    folder = both.served / "aaaa1111" / "dataset"
    folder.mkdir()
    rows = [{"instruction": "q" * 100, "input": "", "output": "a" * 86, "source": "x"}] * 5  # 220 bytes each
    write_jsonl(folder / "train.jsonl", rows)
    report = DatasetReport(train=5, tokens=TokenCounts(mean=110.0), max_seq_length=2048, stop="")
    write_json(folder / "report.json", report.to_json())

    def tokens(ask: Callable[..., Result], *options: str) -> int:
        return int(json.loads(ask("check", *options, "--json").stdout)["report"]["tokens"]["total"])

    guessed = tokens(run, "--model", "qwen3-4b")
    assert tokens(both.through, "--model", "qwen3-4b") == pytest.approx(guessed * 2.1, rel=0.05)
    assert tokens(both.through) == guessed
    monkeypatch.setattr(Connection, "_answer", lambda *_, **__: (_ for _ in ()).throw(Unavailable("gone")))
    assert tokens(both.through, "--model", "qwen3-4b") == guessed


def _in_folders(both: Both, documents: Path, arguments: list[str]) -> tuple[object, object]:
    """The outputs and the files that came of it, each in the same place, which is emptied in between."""
    found = []
    for way in (run, both.through):
        result = both._plain(way(*arguments))
        names = {path for path in documents.parent.iterdir() if path.name not in KEPT}
        found.append((result, {path.name: _tree(path) for path in names}))
        for path in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return found[0], found[1]


NUMBERS = r"""(\bin |"silent_seconds": )[\d.]+"""  # seconds
KEPT = ("artifacts", "served", "cache", "documents", "questions.json")


def _tree(path: Path) -> object:
    if path.is_dir():
        return {one.name: _tree(one) for one in path.iterdir()}
    return re.sub(rb"This page: .*?UTC", b"", path.read_bytes())
