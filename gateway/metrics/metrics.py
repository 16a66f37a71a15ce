"""The text for Prometheus, kept for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from ftq.client.client import Client

FRESH = 5.0  # seconds for which the database isn't asked again


class Metrics:
    """What the database counts is asked for at most once in FRESH seconds."""

    def __init__(self) -> None:
        self._lock, self._at, self._text = threading.Lock(), -FRESH, b""

    def text(self, client: Client, served: Mapping[tuple[str, int], int]) -> bytes:
        """The exposition. `served` counts this server's answers by path and status."""
        from gateway.metrics.families import text  # prometheus_client: for those who read it

        with self._lock:
            if time.monotonic() - self._at >= FRESH:
                self._text, self._at = text(client, served), time.monotonic()
            return self._text
