"""Keys, request ids and errors of the gateway, as OpenAI's clients read them."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import openai
import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from gateway import program
from tests.gateway_tools import make_gateway, serving

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def api(tmp_path: Path) -> TestClient:
    app, secret = make_gateway(tmp_path / "home")
    return TestClient(app, headers={"authorization": f"Bearer {secret}"})


def test_without_a_key_only_the_health_is_told(api: TestClient) -> None:
    assert TestClient(api.app).get("/healthz").json() == {"status": "ok"}
    answer = TestClient(api.app).get("/v1/models")
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)


def test_a_wrong_key_is_masked_in_the_answer(api: TestClient) -> None:
    answer = api.get("/v1/models", headers={"authorization": "Bearer sk-ftq-wrong-1234567890"})
    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == (
        "Incorrect API key provided: sk-f***7890. `ftq keys list` shows the first and last letters of those there are, "
        "`ftq keys create NAME` makes one."
    )
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_an_unknown_address_is_an_error_of_the_same_shape(api: TestClient) -> None:
    answer = api.get("/v1/x")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Invalid URL (GET /v1/x)"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["openai-processing-ms"].isdigit()


def test_a_base_url_without_v1_is_told_what_it_lacks(api: TestClient) -> None:
    """Whatever the client asks for."""
    served = {route.path for route in api.app.routes if isinstance(route, Route) and route.path.startswith("/v1/")}
    later = {"/v1/chat/completions", "/v1/completions", "/v1/responses"}
    for path in sorted(served | later):
        url = path.removeprefix("/v1").replace("{", "").replace("}", "")
        answer = api.get(url)
        told = f"Invalid URL (GET {url}): the API is below /v1, so the client's base URL has to end in /v1."
        assert (answer.status_code, answer.json()["error"]["message"]) == (404, told)


def test_the_official_client_raises_its_own_errors(tmp_path: Path) -> None:
    app, secret = make_gateway(tmp_path / "home")
    with serving(app) as url:
        with pytest.raises(openai.AuthenticationError) as caught:
            openai.OpenAI(base_url=f"{url}/v1", api_key="wrong").post("/x", cast_to=object)
        assert caught.value.request_id
        with pytest.raises(openai.NotFoundError):
            openai.OpenAI(base_url=f"{url}/v1", api_key=secret).post("/x", cast_to=object)


def test_a_key_that_was_revoked_opens_nothing(api: TestClient) -> None:
    app = api.app
    app.state.gateway.client.store.keys.revoke("test")  # type: ignore[attr-defined]
    assert api.get("/v1/models").status_code == 401


def test_an_answers_body_doesnt_wait_for_the_clients_acknowledgement_of_its_headers() -> None:
    """Nagle's algorithm and a client's delayed acknowledgement add 40 ms to every answer on a kept connection."""
    with (
        closing(program._listen("127.0.0.1", 0)) as listener,
        closing(socket.create_connection(listener.getsockname())),
        closing(listener.accept()[0]) as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
