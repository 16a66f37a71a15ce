"""The Python API: one method for each thing a person does with runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftq.check.check import Check
    from ftq.client.remote.protocol import AnyClient
    from ftq.settings import Settings


def open(settings: Settings, note: Callable[[str], None] = lambda text: None) -> AnyClient:
    """A client over the database, or through FTQ_SERVER where that is set. `note` gets what a person should know."""
    if settings.server:
        from ftq.client.remote.client import RemoteClient

        return RemoteClient(settings, note)
    from ftq.client.client import Client

    return Client(settings)


def check(settings: Settings, options: dict[str, Any]) -> Check:
    """What `open(settings).check(options)` gives, without importing the libraries of a database, which takes longest.

    UserError for options or a folder that submit would refuse.
    """
    if settings.server:
        with closing(open(settings)) as client:
            return client.check(options)
    from ftq.client import submit

    return submit.check(options, settings.home)
