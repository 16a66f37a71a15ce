"""GET /metrics: the queue, its workers and this server in numbers, for Prometheus."""
