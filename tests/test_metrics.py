"""/metrics: who may read it, what it says of a queue, and that dashboard and alert rules ask for what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ftq.errors import UserError
from ftq.files.run_dir import STAGES
from ftq.store.fleet.numbers import Numbers, Training, Waiting
from ftq.store.store import RunStore
from ftq.version import VERSION
from gateway.metrics.routes import token_of
from tests.gateway_tools import key_of, make_gateway
from tests.test_store import Clock, clock, store, url
from worker.machine import hardware, nvidia_smi

__all__ = ["clock", "store", "url"]  # fixtures
DOCS = Path(__file__).parents[1] / "docs"
CARD = {"gpu": "0", "name": "H100", "total": 80 * 2**30, "used": 2**30, "use": 0.5}


def fill(store: RunStore, clock: Clock | None = None) -> None:
    """Runs of each status, and a worker that trains."""
    store.see_worker(
        "w1@a", "a", ["cpu", "gpu"], "H100", 1, {"cards": [CARD], "dropped": 2, "foreign": ["x"], "refused": "y"}
    )
    for name in ("waits", "wide", "paused", "cancelled", "trains", "done"):
        options = {"gpus": 2, "worker": "big"} if name == "wide" else {}
        store.create(name, name, {"model": "m", **options}, "hash")
    store.pause("paused")
    store.cancel("cancelled")
    for run, names in (("trains", STAGES[:2]), ("done", STAGES), ("wide", STAGES[:1])):
        for stage in names:
            token = store.claim(run, stage, 1, "w1@a", 60)
            assert token
            if (run, stage) == ("trains", "train"):
                store.progress(token, {"tokens_per_second": 512.5})
                continue
            if clock:
                clock.now += 10
            store.succeed(token, None, [], cached=run == "wide")
    store.ask("done", "when?", {})


def test_the_queue_in_numbers(store: RunStore, clock: Clock) -> None:
    fill(store, clock)
    token = store.claim("waits", "prepare", 1, "w1@a", 60)
    assert token
    store.lose(token, "gone")
    clock.now += 5
    assert store.numbers() == Numbers(
        runs={"running": 1, "failed": 0, "cancelled": 1, "queued": 2, "succeeded": 1, "paused": 1},
        waiting={"cpu": Waiting(1, 5), "gpu2.big": Waiting(1, 5)},
        running={"train": 1},
        finished={"prepare": (2, 20), **dict.fromkeys(STAGES[1:], (1, 10))},
        training=[Training("trains", "w1@a", 512.5)],
        events={"lost": 1},
        questions={"queued": 1},
    )


def test_an_empty_queue(store: RunStore) -> None:
    assert store.numbers() == Numbers(dict.fromkeys(store.numbers().runs, 0), {}, {}, {}, [], {}, {})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Starlette, TestClient, str]]:
    monkeypatch.setenv("FTQ_METRICS_TOKEN", "scrape-me")
    app, admin = make_gateway(tmp_path / "artifacts")
    yield app, TestClient(app, base_url="http://localhost"), admin
    app.state.gateway.client.close()


def read(client: TestClient, secret: str, path: str = "/metrics") -> httpx.Response:
    return client.get(path, headers={"authorization": f"Bearer {secret}"} if secret else {})


def test_who_may_read_them(site: tuple[Starlette, TestClient, str]) -> None:
    app, client, admin = site
    asked = {"scrape-me": 200, admin: 200, key_of(app, "ana"): 403, "": 401, "scrape-m": 401, "scrape-me2": 401}
    assert {secret: read(client, secret).status_code for secret in asked} == asked
    assert read(client, "scrape-me").headers["content-type"].startswith("text/plain; version=")
    for path in ("/v1/models", "/metrics/", "/healthz/x"):
        assert read(client, "scrape-me", path).status_code == 401, path


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    given = {"FTQ_METRICS_TOKEN_FILE": str(tmp_path / "token")}
    assert (token_of(given), token_of({"FTQ_METRICS_TOKEN": "x"}), token_of({})) == (b"abc", b"x", b"")
    with pytest.raises(UserError, match="both set"):
        token_of({**given, "FTQ_METRICS_TOKEN": "x"})


def samples(text: str) -> dict[tuple[str, ...], float]:
    """{(name, values by the labels' names...): value}, as Prometheus' own parser reads it."""
    every = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {(one.name, *(one.labels[label] for label in sorted(one.labels))): one.value for one in every}


def test_what_prometheus_reads(site: tuple[Starlette, TestClient, str]) -> None:
    app, client, admin = site
    fill(app.state.gateway.client.store)
    read(client, admin, "/v1/models")
    read(client, "wrong", "/v1/models/x")
    read(client, admin, "/nowhere")
    got = samples(read(client, "scrape-me").text)
    some = {
        ("ftq_runs", "queued"): 2, ("ftq_runs", "running"): 1, ("ftq_runs", "paused"): 1, ("ftq_runs", "failed"): 0,
        ("ftq_queue_stages", "gpu2.big"): 1, ("ftq_stages_running", "train"): 1, ("ftq_questions", "queued"): 1,
        ("ftq_stage_seconds_count", "prepare"): 2, ("ftq_train_tokens_per_second", "trains", "w1@a"): 512.5,
        ("ftq_events_total", "lost"): 0, ("ftq_workers", "refused"): 1, ("ftq_workers", "up"): 0,
        ("ftq_worker_stages", "w1@a"): 1, ("ftq_messages_dropped_total", "w1@a"): 2,
        ("ftq_worker_foreign_keys", "w1@a"): 1, ("ftq_worker_refused", "w1@a"): 1,
        ("ftq_gpu_memory_bytes", "0", "H100", "w1@a"): 80 * 2**30,
        ("ftq_gpu_memory_used_bytes", "0", "H100", "w1@a"): 2**30, ("ftq_gpu_use_ratio", "0", "H100", "w1@a"): 0.5,
        ("ftq_http_answers_total", "/v1/models", "200"): 1, ("ftq_http_answers_total", "/v1/models", "401"): 1,
        ("ftq_http_answers_total", "other", "404"): 1, ("ftq_server_info", VERSION): 1,
    }  # fmt: skip
    assert {name: got.get(name) for name in some} == some
    assert got["ftq_worker_silent_seconds", "a", "w1@a"] < 60
    app.state.gateway.client.store.forget_worker("w1@a")
    app.state.gateway.metrics._at = -1e9  # not from a moment ago
    assert [name for name in samples(read(client, "scrape-me").text) if "w1@a" in name] == [
        ("ftq_train_tokens_per_second", "trains", "w1@a")
    ], "nobody is told of a worker that was forgotten"


def test_every_metric_that_dashboard_rules_and_manual_name_exists(site: tuple[Starlette, TestClient, str]) -> None:
    app, client, admin = site
    fill(app.state.gateway.client.store)
    read(client, admin, "/v1/models")
    read(client, "scrape-me")
    app.state.gateway.metrics._at = -1e9  # not from a moment ago
    there = {name for name, *_ in samples(read(client, "scrape-me").text)}
    board = json.loads((DOCS / "grafana.json").read_text())
    shown = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    rules = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"][0]["rules"]
    alerts = " ".join(rule["expr"] for rule in rules)
    manual = " ".join(re.findall("^[|] `ftq_.*", (DOCS / "workers.md").read_text(), re.MULTILINE))
    for text in (shown, alerts, manual):
        named = set(re.findall(r"\bftq_[a-z_]+", text))
        assert named and named <= there
    hidden = {name for name in there if not name.endswith(("_created", "_count"))}
    assert hidden <= set(re.findall(r"\bftq_[a-z_]+", manual)), "the manual has them all"
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places) and len({panel["id"] for panel in board["panels"]}) == len(places)


def test_a_worker_tells_of_its_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["A, B", "0", "GPU-a", "100", "40", "7"], ["C", "1", "GPU-c", "[N/A]", "[N/A]", "[N/A]"]]
    monkeypatch.setattr(nvidia_smi, "rows", lambda fields, seconds: rows)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-c,0")
    nothing = {"gpu": "1", "name": "C", "total": None, "used": None, "use": None}
    first = {"gpu": "0", "name": "A, B", "total": 100 * 2**20, "used": 40 * 2**20, "use": 0.07}
    assert hardware.in_use() == [first, nothing]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware.in_use() == []
