"""FTQ_NOTIFY_URL: who is told. An address holds tokens and passwords, so only its `shown` form is ever printed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ftq.errors import UserError
from ftq.notify.signature import SECRET, key_of
from ftq.servers import secret_of

URL = "FTQ_NOTIFY_URL"
# Addresses of the web that are a service's own, as it shows them: apprise knows what they take.
SERVICES = ("hooks.slack.com", "discord.com", "discordapp.com")


@dataclass(frozen=True)
class Address:
    """One who is told. With a `key` it gets signed JSON; without one, apprise knows what it takes."""

    url: str = field(repr=False)
    shown: str
    key: bytes = field(default=b"", repr=False)

    @property
    def id(self) -> str:
        """What the database calls it."""
        return f"notify_{hashlib.sha256(self.url.encode()).hexdigest()[:24]}"

    def without_secrets(self, text: str) -> str:
        """The text without anything that stands in the address beyond what is shown."""
        parts = sorted(set(re.split(r"[/:@?&=#]+", self.url)) - set(re.split(r"[/:@?&=# ]+", self.shown)), key=len)
        for part in (self.url, *reversed(parts)):
            if len(part) > 3:
                text = text.replace(part, "***")
        return text


def addresses(environ: Mapping[str, str] = os.environ) -> list[Address]:
    """Those of FTQ_NOTIFY_URL or of the file that FTQ_NOTIFY_URL_FILE names, separated by spaces.

    UserError for what can't be one, and for an address of the web without FTQ_WEBHOOK_SECRET.
    """
    urls = dict.fromkeys(secret_of(environ, URL).split())
    return [_address(url, number, environ) for number, url in enumerate(urls, start=1)]


def _address(url: str, number: int, environ: Mapping[str, str]) -> Address:
    scheme = url.partition("://")[0]
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#].*", url):
        raise UserError(
            f"{URL}: address {number} is no URL",
            "For example: https://example.org/hook, or slack://TOKENS, ntfy://TOPIC",
        )
    if scheme not in ("http", "https"):
        return Address(url, f"{scheme}:// (address {number})")
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if not host:
        raise UserError(f"{URL}: address {number} names no host", "For example: https://example.org/hook")
    shown = f"{scheme}://{host} (address {number})"
    if host in SERVICES:
        return Address(url, shown)
    if not environ.get(SECRET):
        hint = f'It signs what is sent: export {SECRET}="whsec_$(openssl rand -base64 32)"'
        raise UserError(f"{URL}: address {number} gets signed JSON, and {SECRET} isn't set", hint)
    return Address(url, shown, key_of(environ))
