"""Every error that ftq raises on purpose.

FtqError                 what happened, to what, and what to do next; `kind` is its policy
├── UserError            the user's data or options: never retried (kind "user")
│   └── NotFound         no such run, model, option or file
├── OutOfMemory          the card or the machine: adapted, then retried (kind "memory")
├── Lost                 a machine or a process went away: resumed (kind "lost")
├── Unavailable          the database can't be reached
└── LeaseLost            another process holds this stage now: stop, publish nothing

Whatever else is raised is a bug (kind "bug"): not retried, its full log kept.
"""

from __future__ import annotations


class FtqError(Exception):
    """`message` says what happened and to exactly what, `hint` what to do next (may be empty)."""

    kind = "bug"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class UserError(FtqError):
    kind = "user"


class NotFound(UserError):
    pass


class OutOfMemory(FtqError):
    kind = "memory"


class Lost(FtqError):
    kind = "lost"


class Unavailable(FtqError):
    kind = "lost"


class LeaseLost(FtqError):
    kind = "lost"
