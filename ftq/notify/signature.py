"""The signature of Standard Webhooks, which OpenAI uses too: FTQ_WEBHOOK_SECRET signs every JSON that ftq sends."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from ftq.errors import UserError

SECRET, PREFIX = "FTQ_WEBHOOK_SECRET", "whsec_"


def key_of(environ: Mapping[str, str]) -> bytes:
    """The key in FTQ_WEBHOOK_SECRET. UserError if there is none or it can't be one."""
    secret = environ.get(SECRET, "")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not key or not secret.startswith(PREFIX):
        hint = f'For example: {SECRET}="{PREFIX}$(openssl rand -base64 32)"'
        raise UserError(f"{SECRET}: expected {PREFIX} and base64", hint)
    return key


def headers(key: bytes, message_id: str, body: str, at: int) -> dict[str, str]:
    """The headers that prove who sends the body, at `at` seconds since the epoch."""
    signature = base64.b64encode(hmac.digest(key, f"{message_id}.{at}.{body}".encode(), hashlib.sha256)).decode()
    return {
        "content-type": "application/json",
        "user-agent": "ftq",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{signature}",
    }
