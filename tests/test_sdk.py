"""The SDK: every example of docs/python.md runs, over the database and through a server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ftq
from ftq import Client, Run, RunFailed, RunSpec
from ftq.store.records import Stage
from tests import finished, tools
from tests.gateway_tools import make_gateway, serving
from tests.test_imports import HEAVY, imported
from tests.test_remote import far_away
from tests.tools import until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CHANGING = r"handbook:\d|\d{10}\.\d+|process \d+|^running .*\n|^queued .*\n"  # versions, times, states that were seen
MANUAL = Path(__file__).parent.parent / "docs" / "python.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", MANUAL.read_text(), re.S | re.M)


@pytest.mark.slow
def test_the_manuals_examples_run_over_the_database_and_through_a_server(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    with tools.Bench(tmp_path / "served") as bench:
        bench.start_worker()
        app, secret = make_gateway(tmp_path / "served")
        until(bench.client.store.live_workers)
        for way in ("database", "server"):
            place = tmp_path / way
            finished.write(place, {"handbook/a.md": "# A\n\nText.\n", "questions.json": '[{"question": "So"}]'})
            monkeypatch.chdir(place)
            with serving(app) as url, monkeypatch.context() as patch:
                patch.setenv("FTQ_HOME", str(tmp_path / "served"))
                if way == "database":
                    said.append(_run_examples(capsys))
                    client = Client()
                    client.remove("handbook")
                    client.close()
                else:
                    with far_away(monkeypatch, tmp_path, url, secret):
                        said.append(_run_examples(capsys))
            assert (place / "model" / "SHA256SUMS").is_file()
        app.state.gateway.client.close()
    assert [re.sub(CHANGING, "", text, flags=re.M) for text in said[:1]] == [
        re.sub(CHANGING, "", text, flags=re.M) for text in said[1:]
    ]
    assert "handbook:1 succeeded" in said[0] and "Who approves a holiday? 4 True" in said[0]
    assert "no run matches nobody" in said[0]


def _run_examples(capsys: pytest.CaptureFixture[str]) -> str:
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(example, names)
    client = names["client"]
    assert isinstance(client, Client)
    client.close()
    return capsys.readouterr().out


def test_importing_ftq_costs_nothing() -> None:
    found = imported("import ftq; ftq.__version__")
    assert not found & (HEAVY | {"sqlalchemy", "pydantic", "httpx", "click"})
    assert not imported("from ftq import Client") & (HEAVY | {"pydantic", "httpx", "click"})
    assert not hasattr(ftq, "Nobody")
    assert all(hasattr(ftq, name) for name in ftq.__all__)


def test_a_run_that_failed_is_raised_and_has_the_run(tmp_path: Path, home: Path) -> None:
    finished.finished(home, done=2)
    with Client(home=home) as client:
        client.cancel("handbook")
        with pytest.raises(RunFailed, match="run handbook is cancelled") as told:
            client.wait("handbook")
        assert told.value.run == client.run("handbook")
        assert [one.name for one in client.runs()] == ["handbook"]
        assert isinstance(told.value.run, Run) and isinstance(told.value.run.stages[0], Stage)


def test_waiting_ends_with_its_time(home: Path) -> None:
    finished.finished(home, done=1)
    with Client(home=home) as client, pytest.raises(TimeoutError, match="run handbook is queued after 0 s"):
        client.wait("handbook", timeout=0)


def test_a_program_that_uses_it_is_checked_by_its_types(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("\n".join(EXAMPLES).replace("client = Client()", "client = Client(home='x')"))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=MANUAL.parent.parent, check=False)
    assert done.returncode == 0, done.stdout


def test_a_spec_is_sent_as_it_was_given(home: Path, documents: Path) -> None:
    with Client(home=home) as client:
        run = client.submit(RunSpec(model="smollm2-135m", documents=str(documents), epochs=2), name="mine")
        assert (run.name, run.spec["epochs"]) == ("mine", 2)
        assert client.forecast(RunSpec(model="smollm2-135m", documents=str(documents)), card="24").plan
