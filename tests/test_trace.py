"""Traces: a run is one, whoever sends its parts; a collector that fails or is missing harms nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ftq.files.run_dir import STAGES
from ftq.servers import NOT_FOR_STAGES
from ftq.trace import spans
from tests.test_answers import Rig, rig
from tests.tools import PATIENCE, Bench, until

__all__ = ["rig"]  # a fixture

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
COMMAND = "from cli.start import main; main()"
PATIENT = f"from ftq.trace import spans; spans.SEND_SECONDS = {PATIENCE}; {COMMAND}"  # with a collector that answers


class Collector(ThreadingHTTPServer):
    """Takes what OpenTelemetry's exporter sends, or refuses it with `status`."""

    def __init__(self, status: int = 200) -> None:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        self.request = trace_service_pb2.ExportTraceServiceRequest  # imported before anybody waits for an answer
        super().__init__(("127.0.0.1", 0), _Receive)
        self.status, self.taken = status, list[dict[str, Any]]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Receive(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        asked = self.server.request.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for sent in asked.resource_spans:
            service = {one.key: one.value.string_value for one in sent.resource.attributes}["service.name"]
            for span in sent.scope_spans[0].spans:
                values = {one.key: one.value for one in span.attributes}
                self.server.taken.append({
                    "service": service, "name": span.name, "trace": span.trace_id.hex(), "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(), "seconds": span.end_time_unix_nano - span.start_time_unix_nano,
                    "status": values["ftq.status"].string_value if "ftq.status" in values else "",
                    "error": span.status.message, "run": values["ftq.run_id"].string_value,
                })  # fmt: skip
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    yield server
    server.shutdown()
    server.server_close()


def submit(home: Path, folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, "submit", "--model", "smollm2-135m", "--documents", str(folder), "--json"]
    given = os.environ | {"FTQ_HOME": str(home)} | environment
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_run_is_one_trace(tmp_path: Path, collector: Collector) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    with Bench(tmp_path / "artifacts", **environment) as bench:
        folder = tmp_path / "texts" / "mine"
        folder.mkdir(parents=True)
        (folder / "text.md").write_text("# Text\n\nThis is the text of a run.\n" * 12)
        (folder / "behave.json").write_text(json.dumps({"export": {"1": "user"}}))
        sent = submit(bench.settings.home, folder, PATIENT, **environment)
        assert sent.returncode == 0, sent.stderr
        run_id = json.loads(sent.stdout)["id"]
        bench.start_worker("cpu,gpu")
        until(lambda: bench.client.store.get(run_id).status == "failed")
        until(lambda: len(collector.taken) >= 4)
    taken = collector.taken
    assert [span["name"] for span in taken] == ["submit", *STAGES[:3]]
    assert {span["trace"] for span in taken} == {f"{spans.trace_id(run_id):032x}"}
    assert {span["run"] for span in taken} == {run_id} and {span["service"] for span in taken} == {"ftq"}
    root = f"{spans.root_id(run_id):016x}"
    assert [span["parent"] for span in taken] == ["", root, root, root] and taken[0]["id"] == root
    assert [span["status"] for span in taken] == ["", "succeeded", "succeeded", "failed"]
    assert not any(span["error"] for span in taken[:3]) and taken[3]["error"]
    assert all(span["seconds"] > 0 for span in taken)


def test_a_question_is_a_part_of_its_runs_trace(
    rig: Rig, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setattr(spans, "SEND_SECONDS", PATIENCE)
    spans._tracer.cache_clear()
    rig.ask("why?")
    until(lambda: collector.taken)
    spans._tracer().span_processor.shutdown()
    spans._tracer.cache_clear()
    (span,) = collector.taken
    assert (span["name"], span["run"], span["parent"]) == ("ask", "r", f"{spans.root_id('r'):016x}")


@pytest.mark.parametrize("collector", ["refuses", "is away"])
def test_a_collector_that_fails_harms_nothing(tmp_path: Path, documents: Path, collector: str) -> None:
    server = Collector(500)
    url = server.url
    if collector == "is away":
        server.shutdown()
        server.server_close()
    sent = submit(tmp_path / "artifacts", documents, COMMAND, OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert sent.returncode == 0 and json.loads(sent.stdout)["id"]
    assert "OTEL" not in sent.stderr and "opentelemetry" not in sent.stderr and "Traceback" not in sent.stderr
    if collector == "refuses":
        assert server.taken
        server.shutdown()
        server.server_close()


def test_missing_libraries_are_said_once_and_harm_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    spans._tracer.cache_clear()
    try:
        for _ in range(2):
            spans.record("abc", "submit", spans.now())
    finally:
        spans._tracer.cache_clear()
    (told,) = [record.getMessage() for record in caplog.records if record.name == spans.log.name]
    assert spans.INSTALL in told


def test_nothing_is_imported_where_nobody_asks(tmp_path: Path) -> None:
    code = "import sys; from ftq.trace import spans; spans.record('a', 'ask', 1); print('opentelemetry' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    asked = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert asked.stdout == "False\n", asked.stderr
    assert importlib.util.find_spec("opentelemetry")


def test_no_stage_inherits_the_collectors_password() -> None:
    assert "OTEL_EXPORTER_OTLP_HEADERS" in NOT_FOR_STAGES
