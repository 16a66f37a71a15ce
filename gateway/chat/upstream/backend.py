"""Who answers in this process."""

from __future__ import annotations

from gateway.chat.settings import ChatSettings
from gateway.chat.upstream.local import Local
from gateway.chat.upstream.order import Backend
from gateway.chat.upstream.remote import Remote


def backend(settings: ChatSettings) -> Backend:
    """The server behind FTQ_CHAT_URL, if there is one; else llama.cpp."""
    return Remote(settings) if settings.url else Local(settings)
