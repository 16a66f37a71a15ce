"""ftq, a fine-tuning queue: the contract between the client and the worker, and the SDK: `from ftq import Client`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftq.version import VERSION

if TYPE_CHECKING:
    from ftq.errors import FtqError as FtqError
    from ftq.sdk.client import Answer as Answer
    from ftq.sdk.client import Client as Client
    from ftq.sdk.client import RunFailed as RunFailed
    from ftq.spec.options import RunSpec as RunSpec
    from ftq.store.records import Event as Event
    from ftq.store.records import Run as Run

__version__ = VERSION
__all__ = ["Answer", "Client", "Event", "FtqError", "Run", "RunFailed", "RunSpec"]

_PLACES = {
    **dict.fromkeys(("Answer", "Client", "RunFailed"), "ftq.sdk.client"),
    "FtqError": "ftq.errors",
    "RunSpec": "ftq.spec.options",
    **dict.fromkeys(("Event", "Run"), "ftq.store.records"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import ftq` alone costs nothing."""
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module 'ftq' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
