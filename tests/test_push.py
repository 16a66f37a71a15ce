"""`ftq push`, by the hub's own library, to a small hub on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants as constants
import pytest
from cli_tools import ok, run
from click.testing import Result
from huggingface_hub import ModelCard

from ftq.delivery import push as pushing
from tests.finished import ADAPTER, GGUF, MERGED, MODELFILE, finished, sha256, write
from tests.hub import TOKEN, Hub, Repository, running
from tests.tools import free_port

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the hub's library calls httpx so
PUSH = ("push", "handbook:1", "--to", "me/handbook")


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, its token in a file, and the run handbook."""
    finished(home)
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(token))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(token))  # it has read the environment already
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def head(hub: Hub) -> dict[str, Any]:
    return dict(ModelCard(hub.repositories["me/handbook"].files["README.md"].decode()).data.to_dict())


def refused(*arguments: str) -> Result:
    result = run(*arguments)
    assert result.exit_code and result.stdout == ""
    assert TOKEN not in result.output
    return result


@pytest.mark.parametrize(
    ("kind", "files", "library", "relation"),
    [
        ("gguf", {"model-q4_k_m.gguf": GGUF["q4_k_m"], "Modelfile": MODELFILE.encode()}, "gguf", "quantized"),
        ("adapter", {name: text.encode() for name, text in ADAPTER.items()}, "peft", "adapter"),
        ("merged", {name: text.encode() for name, text in MERGED.items()}, "transformers", "finetune"),
    ],
)
def test_all_files_go_there_as_one_commit_with_a_card(
    hub: Hub, kind: str, files: dict[str, bytes], library: str, relation: str
) -> None:
    result = ok(*PUSH, "--as", kind)
    assert result.stdout == f"{hub.url}/me/handbook\n"
    repository = hub.repositories["me/handbook"]
    card = repository.files.pop("README.md").decode()
    assert repository.files == files
    assert repository.commits == [f"handbook:1 as {kind if kind != 'gguf' else 'gguf:q4_k_m'}, made by ftq"]
    assert dict(ModelCard(card).data.to_dict()) == {
        "base_model": "owner/base",
        "library_name": library,
        "tags": ["ftq", "gguf"] if kind == "gguf" else ["ftq"],
        "license": "mit",
        "base_model_relation": relation,
        "pipeline_tag": "text-generation",
    }
    assert card.endswith("\n# base, fine-tuned\n")
    assert TOKEN not in result.output


def test_a_base_model_that_is_a_folder_is_not_in_the_head(hub: Hub, home: Path) -> None:
    write(home / "aaaa1111", {"README.md": "---\nbase_model: tiny\n---\n\n# tiny, fine-tuned\n"})
    answer = json.loads(ok(*PUSH, "--json").stdout)
    assert answer == {
        "model": "handbook:1",
        "kind": "gguf:q4_k_m",
        "url": f"{hub.url}/me/handbook",
        "commit": f"{hub.url}/me/handbook/commit/1",
    }
    assert "base_model" not in head(hub) and head(hub)["library_name"] == "gguf"


def test_a_run_without_a_card_gets_a_short_one(hub: Hub, home: Path) -> None:
    (home / "aaaa1111" / "README.md").unlink()
    ok(*PUSH)
    assert hub.repositories["me/handbook"].files["README.md"].decode().endswith("# handbook:1\n\nMade by ftq.\n")


def test_a_push_that_was_killed_goes_on(hub: Hub, home: Path) -> None:
    """It is killed when the hub has got one of the two large files; only the other is sent by the next one."""
    write(home / "aaaa1111" / "merged", {"model-00002-of-00002.safetensors": "more weights"})
    hub.room = 1
    command = [sys.executable, "-c", "from cli.main import main\nmain()", *PUSH, "--as", "merged"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "0",
    }  # a stage in this process may have set it
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    hub.stored = process.kill
    _, said = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, said
    hub.stored, hub.room = lambda: None, 2
    assert len(hub.objects) == 1 and hub.repositories["me/handbook"].commits == []
    hub.requests.clear()
    ok(*PUSH, "--as", "merged")
    assert hub.uploads() == 1
    assert len(hub.repositories["me/handbook"].files) == len(MERGED) + 2


def test_a_repository_that_has_files_gets_a_commit_only_with_update(hub: Hub) -> None:
    ok(*PUSH)
    result = refused(*PUSH)
    assert result.stderr == (
        "Error: me/handbook is there already, with Modelfile, README.md, model-q4_k_m.gguf\n"
        "--update adds a commit to it; or give another: --to USER/NAME\n"
    )
    sent = hub.uploads()
    ok(*PUSH, "--update")
    assert (hub.uploads(), len(hub.repositories["me/handbook"].commits)) == (sent, 2)


def test_what_is_to_be_private_never_goes_to_a_public_repository(hub: Hub) -> None:
    ok(*PUSH, "--private")
    assert hub.repositories["me/handbook"].private
    hub.repositories["me/handbook"] = Repository(private=False)
    result = refused(*PUSH, "--private")
    assert result.stderr.startswith("Error: me/handbook is there already, and public\n")
    assert hub.repositories["me/handbook"].files == {}


def test_without_a_token_nothing_is_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    assert refused(*PUSH).stderr == f"Error: there is no token for the hub\n{pushing.TOKEN}\n"
    assert hub.requests == []


def test_a_token_that_the_hub_does_not_know(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    result = refused(*PUSH)
    assert result.stderr == f"Error: {hub.url} doesn't accept the token\n{pushing.TOKEN}\n"
    assert result.exit_code == 2 and "hf_wrong" not in result.output


def test_a_place_where_the_token_may_not_write(hub: Hub) -> None:
    result = refused("push", "handbook", "--to", "them/handbook")
    assert result.stderr.startswith(
        "Error: the token may not write to them/handbook: You don't have the rights to create a model under them\n"
    )


@pytest.mark.parametrize(
    ("request_", "status", "expected"),
    [
        (("POST", "/api/models/me/handbook/commit/main"), 403, "the token may not write to me/handbook: no"),
        (("POST", "/me/handbook.git/info/lfs/objects/batch"), 402, "{url} answered 402 to pushing me/handbook: no"),
        (("POST", "/api/models/me/handbook/commit/main"), 500, "{url} answered 500 to pushing me/handbook: no"),
        (("POST", "/api/models/me/handbook/preupload/main"), 404, "{url} has no me/handbook, or hides it from this"),
        (("PUT", "upload"), 403, "the token may not write to me/handbook"),
    ],
)
def test_a_refusal_on_the_way(hub: Hub, request_: tuple[str, str], status: int, expected: str) -> None:
    method, path = request_
    path = path if method == "POST" else f"/objects/{sha256(GGUF['q4_k_m'])}"
    hub.answers[method, path] = (status, "no")
    result = refused(*PUSH)
    assert result.stderr.startswith(f"Error: {expected.format(url=hub.url)}")
    hub.answers.clear()
    ok(*PUSH)  # it is an empty repository, so the same command goes on


def test_without_a_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("HF_ENDPOINT", url)
    result = refused(*PUSH)
    assert result.stderr.startswith(f"Error: {url} can't be reached: ")
    assert "the same command then goes on" in result.stderr


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refused(*PUSH).stderr.startswith("Error: HF_HUB_OFFLINE is set, so nothing can be pushed\n")


def test_a_damaged_file_is_not_sent(hub: Hub, home: Path) -> None:
    (home / "aaaa1111" / "model-q4_k_m.gguf").write_bytes(b"GGUF damaged")
    assert "model-q4_k_m.gguf is damaged" in refused(*PUSH).stderr
    assert hub.repositories == {} and hub.uploads() == 0


@pytest.mark.parametrize("name", ["handbook", "me/", "a/b/c", "me/a b", "../x", "-me/x"])
def test_what_is_no_repository(hub: Hub, name: str) -> None:
    result = refused("push", "handbook", f"--to={name}")
    assert result.exit_code == 2 and f"Error: '{name}' is no repository of a hub" in result.stderr
    assert hub.requests == []


def test_a_client_without_the_hub_s_library(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "find_spec", lambda name: None)
    assert refused(*PUSH).stderr == (
        "Error: pushing needs huggingface_hub, which isn't installed here\n"
        "`pip install -r requirements/hub.txt` installs it.\n"
    )
