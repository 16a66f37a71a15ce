"""Keys: made by `ftq keys`, limited, revoked, told apart; the first one comes by itself."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import openai
import pytest
from starlette.testclient import TestClient

from ftq.files.run_dir import STAGES
from ftq.programs import ServeOptions
from ftq.store.gateway.keys import Key, Keys, Limits
from ftq.store.store import RunStore
from gateway.errors import ApiError
from gateway.limits import Requests, check_jobs
from tests.cli_tools import NOW, Store, ok, run
from tests.gateway_tools import answers, key_of, make_gateway, serving
from tests.tools import free_port, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


# ---- ftq keys ---------------------------------------------------------------------------------------------


def test_the_secret_is_alone_on_standard_output_and_only_its_hash_is_kept(home: Path) -> None:
    made = ok("keys", "create", "ana", "--limit", "jobs=5,requests=60,bytes=10G")
    secret = made.stdout.removesuffix("\n")
    assert secret.startswith("sk-ftq-") and len(secret) > 40 and secret.isprintable() and " " not in secret
    assert made.stderr == (
        "The key ana: 5 unfinished jobs, 60 requests a minute, 10.0 GB. Its secret isn't shown again.\n"
    )
    assert all(secret[12:-4].encode() not in path.read_bytes() for path in home.rglob("*") if path.is_file())
    key = RunStore(f"sqlite:///{home / 'ftq.db'}").keys.find(secret)
    assert key and (key.name, key.admin, key.limits) == ("ana", False, Limits(5, 60, 10_000_000_000))


@pytest.mark.usefixtures("utc")
def test_the_list_for_people_and_for_scripts(store: Store) -> None:
    keys = store.at(7200).keys
    hints = [keys.create("ana", Limits(), admin=True).key.hint, keys.create("ben", Limits(jobs=1)).key.hint]
    store.at(60).keys.touch(keys.all()[0])
    ok("keys", "revoke", "ben")
    rows = [line.split() for line in ok("keys", "list").stdout.splitlines()]
    assert rows == [
        ["NAME", "SECRET", "LIMITS", "MADE", "USED"],
        ["ana", hints[0], "no", "limits", "2h", "ago", "1m", "ago", "admin"],
        ["ben", hints[1], "1", "unfinished", "job", "2h", "ago", "never", "revoked"],
    ]
    ana, ben = json.loads(ok("keys", "list", "--json").stdout)
    assert sorted(ana) == ["admin", "created_at", "hint", "id", "limits", "name", "revoked_at", "used_at"]
    assert (ana["used_at"], ana["revoked_at"], ben["used_at"]) == (NOW - 60, None, None)
    assert ben["revoked_at"] > NOW


def test_without_a_database_there_is_none_and_none_is_made(home: Path) -> None:
    assert ok("keys", "list").stderr == "There is no key yet: `ftq keys create NAME` makes one.\n"
    assert json.loads(ok("keys", "list", "--json").stdout) == []
    assert run("keys", "revoke", "ana").exit_code == 2
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments",
    [["create", ""], ["create", " "], ["create", "a\nb"], ["create", "x" * 81], ["create", "ana"],
     ["create", "b", "--limit", "jobs"], ["create", "b", "--limit", "jobs=0"], ["create", "b", "--limit", "jobs=1G"],
     ["create", "b", "--limit", "bytes=1.5G"], ["create", "b", "--limit", "jobs=1,jobs=2"],
     ["create", "b", "--limit", "job=1"], ["create", "b", "--limit", "requests=-1"], ["revoke", "ben"]],
)  # fmt: skip
def test_bad_usage_makes_nothing(home: Path, arguments: list[str]) -> None:
    ok("keys", "create", "ana")
    refused = run("keys", *arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert [key["name"] for key in json.loads(ok("keys", "list", "--json").stdout)] == ["ana"]


def test_a_key_ends_once(home: Path) -> None:
    ok("keys", "create", "ana")
    ok("keys", "revoke", "ana")
    again = run("keys", "revoke", "ana")
    assert (again.exit_code, again.stderr) == (
        2, "Error: the key ana is revoked already\n`ftq keys list --json` says since when.\n"
    )  # fmt: skip


# ---- the first key ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_start_makes_an_admins_key_and_tells_it_once(home: Path) -> None:
    """Two commands suffice: `ftq serve`, and the line that it prints."""
    port = free_port()

    def start() -> list[str]:
        """What it says until it is stopped, once it serves."""
        environment = {**os.environ, "FTQ_HOME": str(home), "USER": "ana", "LOGNAME": "ana"}
        process = subprocess.Popen(
            ServeOptions(port=port).argv(), env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        with process:
            assert process.stderr
            first = process.stderr.readline()
            until(lambda: answers(f"http://127.0.0.1:{port}", process))
            process.terminate()
            return [first, *process.stderr.readlines()]

    said = start()
    url = f"http://127.0.0.1:{port}/v1"
    assert said[:3] == [
        f"Serving {url}  (Ctrl-C stops it)\n",
        f"The page, for people: http://127.0.0.1:{port}/\n",
        "The first key, an admin's, is called ana. Its secret is shown this once:\n",
    ]
    secret = said[3].strip().removeprefix(f"export OPENAI_BASE_URL={url} OPENAI_API_KEY=")
    key = RunStore(f"sqlite:///{home / 'ftq.db'}").keys.find(secret)
    assert key and (key.name, key.admin) == ("ana", True)
    assert start() == said[:2]


def test_two_first_starts_at_once_make_one_key(home: Path) -> None:
    home.mkdir()
    stores = [RunStore(f"sqlite:///{home / 'ftq.db'}") for _ in range(4)]
    made: list[object] = []
    threads = [threading.Thread(target=lambda keys=store.keys: made.append(keys.first())) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([new for new in made if new]) == len(stores[0].keys.all()) == 1
    stores[0].keys.revoke(stores[0].keys.all()[0].name)
    assert stores[0].keys.first() is None  # whoever revokes the last one wants none


def test_a_port_that_is_taken_is_said_in_a_line(home: Path) -> None:
    with serving(make_gateway(home)[0]) as url:
        port = int(url.rpartition(":")[2])
        ended = subprocess.run(ServeOptions(port=port).argv(), capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"Error: nobody can listen on 127.0.0.1, port {port}: address already in use\n--host and --port name another.\n"
    )


# ---- while it serves --------------------------------------------------------------------------------------


def test_a_key_is_looked_up_once_a_second_and_its_use_noted_once_a_minute(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, secret = make_gateway(home)
    keys: Keys = app.state.gateway.client.store.keys
    looked_up, now, find = list[str](), [100.0], keys.find
    monkeypatch.setattr(keys, "find", lambda secret: looked_up.append(secret) or find(secret))
    monkeypatch.setattr("gateway.access.time.monotonic", lambda: now[0])
    api = TestClient(app, headers={"authorization": f"Bearer {secret}"})
    store = app.state.gateway.client.store
    clock, seconds = store.clock(), [0.0]
    monkeypatch.setattr(store, "clock", lambda: clock + seconds[0])
    used = []
    for step in (0.0, 0.4, 0.5, 0.2, 30.0, 40.0):
        now[0] += step
        seconds[0] += step
        assert api.get("/v1/files").status_code == 200
        used.append(round(keys.all()[0].used_at - clock, 3))  # type: ignore[operator]
    assert len(looked_up) == 4
    assert used == [0, 0, 0, 0, 0, 71.1]
    keys.revoke("test")
    assert api.get("/v1/files").status_code == 200  # still known
    now[0] += 1
    assert api.get("/v1/files").status_code == 401


def test_requests_a_minute_in_the_official_client(home: Path) -> None:
    app, _ = make_gateway(home)
    with serving(app) as url:
        key = key_of(app, "ana", Limits(requests_per_minute=2))
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        headers = client.files.with_raw_response.list().headers
        assert headers["x-ratelimit-limit-requests"] == "2"
        assert headers["x-ratelimit-remaining-requests"] == "1"
        client.files.list()
        with pytest.raises(openai.RateLimitError) as caught:
            client.files.list()
        assert (caught.value.type, caught.value.code, caught.value.param) == ("requests", "rate_limit_exceeded", None)
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
        assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        openai.OpenAI(base_url=f"{url}/v1", api_key=key_of(app, "ben")).files.list()  # another key's is another count


def test_requests_come_back_evenly() -> None:
    now = [0.0]
    requests, key = Requests(lambda: now[0]), Key("id", "ana", "", False, Limits(requests_per_minute=6), 0)
    resets = [requests.take(key)["x-ratelimit-reset-requests"] for _ in range(6)]
    assert resets == ["10s", "20s", "30s", "40s", "50s", "1m0s"]
    for wait, retry_after in ((0.0, "10"), (3.5, "7"), (6.4, "1")):
        now[0] += wait
        with pytest.raises(ApiError) as caught:
            requests.take(key)
        assert caught.value.headers["Retry-After"] == retry_after
    now[0] += 0.2
    assert requests.take(key)["x-ratelimit-remaining-requests"] == "0"
    now[0] += 3600
    assert requests.take(key)["x-ratelimit-remaining-requests"] == "5"
    slow = Key("slow", "ben", "", False, Limits(requests_per_minute=1), 0)
    requests.take(slow)
    with pytest.raises(ApiError) as caught:
        requests.take(slow)
    assert caught.value.headers["Retry-After"] == "60"


@pytest.mark.usefixtures("utc")
def test_jobs_at_once_are_those_that_arent_finished(store: Store) -> None:
    runs = store.at(600)
    key = runs.keys.create("ana", Limits(jobs=2)).key
    for number, owner in enumerate((key.id, key.id, key.id, "other", "")):
        runs.create(f"r{number}", f"run-{number}", {"model": "smollm2-135m"}, "0", owner=owner)
    assert runs.keys.unfinished(key.id) == 3
    with pytest.raises(ApiError) as caught:
        check_jobs(runs, key)
    assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
    assert caught.value.headers == {"Retry-After": "60", "x-should-retry": "false"}
    runs.cancel("r0")
    runs.pause("r1")
    for number, stage in enumerate(STAGES):
        store.do("r2", stage, 100 - 20 * number)
    by_status = [run for run in runs.all() if run.owner == key.id and not run.is_finished]
    assert runs.keys.unfinished(key.id) == len(by_status) == 1
    check_jobs(runs, key)


def test_an_error_that_nobody_foresaw_has_a_request_id_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, secret = make_gateway(home)
    monkeypatch.setattr(app.state.gateway.client.store.files, "page", lambda *_, **__: 1 / 0)
    api = TestClient(app, headers={"authorization": f"Bearer {secret}"}, raise_server_exceptions=False)
    answer = api.get("/v1/files")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert answer.headers["x-request-id"].startswith("req_")
