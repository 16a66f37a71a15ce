"""OpenAI's own client for Node, unchanged but for the base URL and the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gateway_clients import node_with, spoken
from tests.gateway_tools import key_of, make_gateway, serving

pytestmark = pytest.mark.long
SCRIPT = Path(__file__).with_name("gateway_node.mjs")
ROW = '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}\n'


@pytest.mark.parametrize("version", ["4.104.0", "6.49.0"])
def test_files_and_uploads_in_the_official_client(version: str, home: Path, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(ROW * 3000)
    script = node_with(version, tmp_path, SCRIPT)
    app, _ = make_gateway(home)
    with serving(app) as url:
        said = spoken(["node", script], url, key_of(app, "node"), 300, TRAIN=str(tmp_path / "train.jsonl"))
    assert json.loads(said) == {
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
