"""The spans of a run. A run is one trace, whose ids are made of the run's: no message has to carry them.

`submit` is the root, each attempt of a stage and each question a child. Spans are sent by a thread of their own.
Whatever goes wrong here harms no run: it is logged, once.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from functools import cache
from typing import Any

from ftq.version import install

log = logging.getLogger("ftq.trace")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
INSTALL = install("trace")
SEND_SECONDS = 2.0  # that a command waits for a collector at its end, at most
EVERY_MS = 1000
_root = threading.local()  # the ids of the root span that this thread begins


def requested() -> bool:
    """Whether somebody wants traces."""
    return any(os.environ.get(name) for name in ENDPOINTS)


def now() -> int:
    """The time at which a span begins, in nanoseconds since the epoch."""
    return time.time_ns()


def record(run_id: str, name: str, began: int, error: str = "", **attributes: Any) -> None:
    """Send a span that ends now. `submit` is the root of the run's trace. Values that are None are left out."""
    if not requested():
        return
    try:
        tracer = _tracer()
        if tracer is not None:
            _record(tracer, run_id, name, began, error, attributes)
    except Exception as failure:
        log.info("no span was recorded: %s", failure)


def trace_id(run_id: str) -> int:
    """The id of the run's trace: 128 bits of a hash over the run's id."""
    return int.from_bytes(hashlib.sha256(f"ftq {run_id}".encode()).digest()[:16])


def root_id(run_id: str) -> int:
    """The id of the trace's first span."""
    return int.from_bytes(hashlib.sha256(f"ftq {run_id}".encode()).digest()[16:24])


def _record(tracer: Any, run_id: str, name: str, began: int, error: str, attributes: dict[str, Any]) -> None:
    from opentelemetry import trace

    given = {f"ftq.{key}": value for key, value in attributes.items() if value is not None} | {"ftq.run_id": run_id}
    if name == "submit":
        _root.ids = trace_id(run_id), root_id(run_id)
        context = trace.set_span_in_context(trace.INVALID_SPAN)
    else:
        parent = trace.SpanContext(trace_id(run_id), root_id(run_id), True, trace.TraceFlags(trace.TraceFlags.SAMPLED))
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
    try:
        span = tracer.start_span(name, context, start_time=began, attributes=given)
    finally:
        _root.ids = None
    if error:
        span.set_status(trace.StatusCode.ERROR, error)
    span.end()


@cache
def _tracer() -> Any:
    """What makes spans; None, with a line in the log, where the libraries are missing."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    except ImportError as error:
        log.warning("traces are asked for by OTEL_..., but %s is missing: %s", error.name, INSTALL)
        return None

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            ids = getattr(_root, "ids", None)
            return ids[0] if ids else super().generate_trace_id()

        def generate_span_id(self) -> int:
            ids = getattr(_root, "ids", None)
            return ids[1] if ids else super().generate_span_id()

    with contextlib.suppress(Exception):
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would tell each failure, in a command too
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or "ftq"})
    provider = TracerProvider(resource=resource, id_generator=Ids())
    exporter = OTLPSpanExporter(timeout=SEND_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EVERY_MS))
    return provider.get_tracer("ftq")
