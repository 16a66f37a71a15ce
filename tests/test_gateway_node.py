"""OpenAI's own client for Node, unchanged but for the base URL and the key."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.gateway_tools import key_of, make_gateway, serving

pytestmark = pytest.mark.long
SCRIPT = Path(__file__).with_name("gateway_node.mjs")
ROW = '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}\n'


@pytest.fixture(scope="module", params=["4.104.0", "6.49.0"])
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside the client of this version; skipped where there is no Node or no registry."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node: apt-get install nodejs npm")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"type": "module"}')
    options = ["--no-audit", "--no-fund", "--ignore-scripts", f"openai@{request.param}"]
    if subprocess.run([npm, "install", *options], cwd=folder, capture_output=True, timeout=120).returncode:
        pytest.skip("npm can't install openai: is there a registry?")
    return Path(shutil.copy(SCRIPT, folder))


def test_files_and_uploads_in_the_official_client(script: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(ROW * 3000)
    app, _ = make_gateway(home)
    with serving(app) as url:
        settings = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key_of(app, "node")}
        environment = {**os.environ, **settings, "TRAIN": str(tmp_path / "train.jsonl")}
        ended = subprocess.run(["node", script], env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "file": ["train.jsonl", 3000 * len(ROW), "processed"],
        "named": ["ü x.jsonl", 3600],
        "listed": True,
        "content": True,
        "whole": ["parts", "abcdef"],
        "cancelled": "cancelled",
        "bad": ["BadRequestError", 400, "invalid_file", "file", True],
        "deleted": True,
        "gone": ["NotFoundError", 404, None, "id", True],
        "key": ["AuthenticationError", 401, "invalid_api_key", None, True],
    }
