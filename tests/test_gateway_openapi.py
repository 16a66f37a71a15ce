"""/openapi.json: it describes what is there, and what is there answers as it is described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from starlette.testclient import TestClient

from gateway.own.openapi import description
from gateway.own.routes import TABLE
from gateway.own.routes import routes as own_routes
from tests.gateway_tools import make_gateway
from tests.test_remote import fill

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
EXAMPLES = 40  # of each operation
CHECKS = [
    not_a_server_error,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
]


def test_every_path_is_described_once(tmp_path: Path) -> None:
    app, secret = make_gateway(tmp_path / "home")
    with TestClient(app) as api:
        assert api.get("/openapi.json").status_code == 401
        told = api.get("/openapi.json", headers={"authorization": f"Bearer {secret}"}).json()
    operations = [(path, method, one) for path, ways in told["paths"].items() for method, one in ways.items()]
    routes = {(route.path.replace(":path", ""), next(iter(route.methods - {"HEAD"})).lower())
              for route in own_routes if route.path.startswith("/ftq/")}  # fmt: skip
    assert {(path, method) for path, method, _ in operations} == routes
    assert len({one["operationId"] for *_, one in operations}) == len(operations) == len(TABLE)
    assert told == description(TABLE)


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(TABLE)), ids=lambda number: f"{TABLE[number].method} {TABLE[number].path}")
def test_nothing_that_is_sent_breaks_the_server(number: int, tmp_path: Path, cache: Path) -> None:
    fill(tmp_path / "home")
    app, secret = make_gateway(tmp_path / "home")
    schema = schemathesis.openapi.from_dict(description(TABLE))
    schema.app = app
    entry = TABLE[number]
    path = "/ftq/v1" + entry.path.replace(":path", "")

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=schema[path][entry.method].as_strategy())
    def fuzz(case: Any) -> None:
        case.call_and_validate(headers={"authorization": f"Bearer {secret}"}, checks=CHECKS)

    fuzz()
    app.state.gateway.client.close()
