"""The Python API: one method for each thing a person does with runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftq.client.remote.protocol import AnyClient
    from ftq.settings import Settings


def open(settings: Settings, note: Callable[[str], None] = lambda text: None) -> AnyClient:
    """A client over the database, or through FTQ_SERVER where that is set. `note` gets what a person should know."""
    if settings.server:
        from ftq.client.remote.client import RemoteClient

        return RemoteClient(settings, note)
    from ftq.client.client import Client

    return Client(settings)
