"""What runs are called: ids, families, and the next name of a family."""

from __future__ import annotations

import getpass
import os
import re
import secrets

from ftq.errors import utf8
from ftq.store.records import USER
from ftq.store.store import RunStore

_ID_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no letter that reads like another


def new_id() -> str:
    """A run's id."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))


def renamed(name: str, wanted: str | None, sees: bool = True) -> str:
    """A note if the run can't be called as the user wanted; empty if it can.

    `sees` is whether the user may see the run that has the name.
    """
    if wanted in (None, name):
        return ""
    if not sees:
        return f"this run is called {name}: names are given once"
    return f"another run is called {wanted}: this one is {name}, and the next version of {wanted} when it succeeds"


def free_name(store: RunStore, name: str, owner: str | None = None) -> str:
    """The name of the next run of a family: its own if no run has that, else handbook-2, handbook-3...

    With an `owner` as far as that one may know: the others' runs have names too.
    """
    taken = store.names(name, owner)
    return name if name not in taken else numbered(name, taken, 2)


def family_of(model: str) -> str:
    """What the runs of a base model are called where the user gives no name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model.rstrip("/").rpartition("/")[2]).strip("-.")[:60] or "run"


def numbered(family: str, taken: set[str], number: int) -> str:
    while f"{family}-{number}" in taken:
        number += 1
    return f"{family}-{number}"


def user() -> str:
    """The owner of the runs that this process's user submits: user:ana."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        name = f"uid-{os.getuid()}"
    return f"{USER}{utf8(name)}"[:64]
