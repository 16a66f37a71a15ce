"""What a key may use: requests a minute, jobs at once, bytes stored. OpenAI's status and headers for too much."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from ftq.store.gateway.keys import Key
from ftq.store.store import RunStore
from ftq.words import plural
from gateway.errors import ApiError

MINUTE = 60.0
FORGOTTEN = 10_000  # keys whose requests are counted; the buckets of idle ones are full anyway


@dataclass
class _Bucket:
    tokens: float
    at: float


class Requests:
    """Requests a minute of each key, counted by this process alone: a bucket that holds a minute's and refills evenly.

    `clock` is an argument so that tests can step it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: Key) -> dict[str, str]:
        """Count a request. The headers that say what is left; ApiError 429 if nothing is."""
        limit = key.limits.requests_per_minute
        if not limit:
            return {}
        bucket = self._refilled(key.id, limit)
        if bucket.tokens < 1:
            raise self._too_many(limit, bucket)
        bucket.tokens -= 1
        return _headers(limit, bucket)

    def _refilled(self, key_id: str, limit: int) -> _Bucket:
        now = self._clock()
        if len(self._buckets) > FORGOTTEN:
            self._buckets.clear()
        bucket = self._buckets.setdefault(key_id, _Bucket(limit, now))
        bucket.tokens = min(limit, bucket.tokens + (now - bucket.at) * limit / MINUTE)
        bucket.at = now
        return bucket

    def _too_many(self, limit: int, bucket: _Bucket) -> ApiError:
        wait = min(60, max(1, math.ceil((1 - bucket.tokens) * MINUTE / limit)))
        return ApiError(
            429,
            f"Rate limit reached for this key on requests per min (RPM): Limit {limit}. Please try again in {wait}s.",
            kind="requests",
            code="rate_limit_exceeded",
            headers={**_headers(limit, bucket), "Retry-After": str(wait)},
        )


def check_jobs(store: RunStore, key: Key) -> None:
    """ApiError 429 if the key has as many jobs that aren't finished as it may have. Before a job is made."""
    most = key.limits.jobs
    if most and (unfinished := store.keys.unfinished(key.id)) >= most:
        raise ApiError(
            429,
            f"The key has {plural(unfinished, 'job')} that {'is' if unfinished == 1 else 'are'}n't finished, "
            f"and may have {most}. "
            "Wait until one is, or cancel one.",
            kind="requests",
            code="rate_limit_exceeded",
            headers={"Retry-After": "60", "x-should-retry": "false"},  # a client would sleep without a word
        )


def over_quota(message: str) -> ApiError:
    """For bytes. Sending them again doesn't help, so clients are told not to."""
    return ApiError(
        429,
        message,
        kind="insufficient_quota",
        code="insufficient_quota",
        headers={"Retry-After": "60", "x-should-retry": "false"},
    )


def _headers(limit: int, bucket: _Bucket) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(int(bucket.tokens)),
        "x-ratelimit-reset-requests": _span((limit - bucket.tokens) * MINUTE / limit),
    }


def _span(seconds: float) -> str:
    """As OpenAI writes it: 120ms, 8.64s, 1m0s."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    return f"{seconds:.4g}s" if seconds < MINUTE else f"{int(seconds // MINUTE)}m{round(seconds % MINUTE)}s"
