"""Sends a notice to one address: as signed JSON, or in the service's own form by apprise."""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from ftq.errors import lines
from ftq.notify.addresses import Address
from ftq.notify.signature import headers
from ftq.version import install

TIMEOUT = 15.0
INSTALL = install("notify")
MISSING = f"apprise isn't installed here: {INSTALL}"
LOOKS = {"finished": "success", "failed": "failure", "stalled": "warning", "drained": "info", "test": "info"}


@dataclass(frozen=True)
class Notice:
    """What is told: `kind` is finished, failed, stalled, drained or test; `body` is JSON, the same at each try."""

    id: str
    kind: str
    body: str


def send(address: Address, notice: Notice) -> str:
    """Send it once. What went wrong, without the address's secrets; empty if it was taken."""
    try:
        error = _post(address, notice) if address.key else _by_apprise(address, notice)
    except Exception as unexpected:  # a plugin's bug: whoever sends goes on
        error = f"{type(unexpected).__name__}: {unexpected}"
    return address.without_secrets(error)


def problem(address: Address) -> str:
    """Why nothing can be sent to the address from here; empty if it can be tried."""
    if address.key:
        return ""
    if find_spec("apprise") is None:
        return MISSING
    return "" if _plugin(address) else "apprise knows no such address"


def _post(address: Address, notice: Notice) -> str:
    signed = headers(address.key, notice.id, notice.body, int(time.time()))
    request = urllib.request.Request(address.url, notice.body.encode(), signed)  # noqa: S310  http or https
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT).close()
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP status {error.code}"
    except OSError as error:
        return str(getattr(error, "reason", error))
    return ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A signed body isn't carried elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _by_apprise(address: Address, notice: Notice) -> str:
    if why := problem(address):
        return why
    from apprise import LogCapture  # 0.1 s, and only for those who have such an address

    data = json.loads(notice.body)["data"]
    with LogCapture(level=logging.WARNING, fmt="%(message)s") as said:  # type: ignore[no-untyped-call]
        taken = _plugin(address).notify(title=data["title"], body=data["text"], notify_type=LOOKS[notice.kind])
        complaint = said.getvalue().strip()
    return "" if taken else lines(complaint or "not taken")[0]


def _plugin(address: Address) -> Any:
    from apprise import Apprise, AppriseAsset

    asset = AppriseAsset(app_id="ftq", app_desc="ftq", app_url="", secure_logging=True)
    return Apprise.instantiate(address.url, asset=asset)
