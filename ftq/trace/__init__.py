"""OpenTelemetry traces of runs, where OTEL_EXPORTER_OTLP_ENDPOINT asks for them."""
