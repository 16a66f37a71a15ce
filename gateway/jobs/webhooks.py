"""Webhooks: FTQ_WEBHOOK_URL is told of every job that ends, also of those that ended while no gateway was up.

Signed as OpenAI signs (Standard Webhooks), so that `client.webhooks.unwrap` accepts them. Two gateways send one; a
receiver that fails is tried again for three days, with the same id.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ftq.errors import FtqError, UserError
from ftq.notify import signature
from ftq.store.gateway.webhooks import Delivery
from gateway.jobs import results
from gateway.jobs.shown import is_trained
from gateway.shared import Gateway

WEBHOOK = "whep_env"  # the one that the environment names
LOOK_SECONDS, TIMEOUT = 2.0, 15.0
log = logging.getLogger("ftq.gateway")


@dataclass(frozen=True)
class Webhook:
    url: str
    secret: bytes = field(repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Webhook | None:
        """FTQ_WEBHOOK_URL and FTQ_WEBHOOK_SECRET; None without them. UserError for what can't be used."""
        url = environ.get("FTQ_WEBHOOK_URL", "")
        if not url:
            return None
        if not url.startswith(("http://", "https://")):
            raise UserError("FTQ_WEBHOOK_URL: not an http:// or https:// address")
        return cls(url, signature.key_of(environ))

    def headers(self, delivery: Delivery, at: int) -> dict[str, str]:
        """The headers that prove who sends the delivery."""
        return signature.headers(self.secret, delivery.id, delivery.body, at)


@contextlib.contextmanager
def sending(gateway: Gateway, webhook: Webhook | None) -> Iterator[None]:
    """Send what is to be told while the block runs."""
    if webhook is None:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_send_until, args=(gateway, webhook, stop), name="webhooks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(TIMEOUT)


def send_due(gateway: Gateway, webhook: Webhook) -> int:
    """Note the runs that have ended, and send every delivery that is due. Returns how many were tried."""
    store, tried = gateway.client.store.webhooks, 0
    store.note_ended(WEBHOOK)
    while delivery := store.take(WEBHOOK):
        run = gateway.client.store.jobs.run(delivery.run_id)
        if run and is_trained(run):
            results.keep(gateway, run)  # whoever is told asks for it next
        error = _post(webhook, delivery)
        store.settle(delivery, error)
        if error:
            log.warning("webhook %s, try %s: %s", delivery.id, delivery.tries, error)
        tried += 1
    return tried


def _send_until(gateway: Gateway, webhook: Webhook, stop: threading.Event) -> None:
    is_kept = False
    while True:
        try:
            if not is_kept:
                gateway.client.store.webhooks.keep(WEBHOOK, webhook.url)
                is_kept = True
            send_due(gateway, webhook)
        except FtqError as error:  # the database may be back at the next look
            log.warning("webhooks: %s", error)
        except Exception:
            log.exception("webhooks")
        if stop.wait(LOOK_SECONDS):
            return


def _post(webhook: Webhook, delivery: Delivery) -> str:
    """Send it once. What went wrong; empty if it was taken."""
    import httpx  # for those who have a webhook

    headers = webhook.headers(delivery, int(time.time()))
    try:
        answer = httpx.post(webhook.url, content=delivery.body.encode(), headers=headers, timeout=TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{type(error).__name__}: {error}"
    return "" if answer.is_success else f"HTTP status {answer.status_code}"
