"""Every error that ftq raises on purpose.

FtqError                 what happened, to what, and what to do next; `kind` is its policy
├── UserError            the user's data or options: never retried (kind "user")
│   ├── NotFound         no such run, model, option or file
│   ├── NameTaken        another run has this name
│   └── Refused          the run's state doesn't allow it: still running, nothing to retry, no model yet
├── OutOfMemory          the card or the machine: adapted, then retried (kind "memory")
├── Lost                 a machine or a process went away: resumed (kind "lost")
├── Unavailable          the database or the artifacts folder can't be used
└── LeaseLost            another process holds this stage now: stop, publish nothing

Whatever else is raised is a bug (kind "bug"): not retried, its full log kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

# What reading a file may raise that is missing, damaged, or of another version of ftq.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
# An escape sequence in a file name, a document, an answer or a database must not reach a terminal.
_CONTROL = {code: "\ufffd" for code in (*range(32), *range(127, 160))}


OPTIONS = "options"  # at fault: see FtqError


class FtqError(Exception):
    """`message` says what happened and to exactly what, `hint` what to do next (may be empty).

    `about` says which part of what was asked for is at fault: `model`, `training` or `validation` (the documents of
    each), or `options` where the same ones would only fail again; empty where that isn't known.
    """

    kind = "bug"

    def __init__(self, message: str, hint: str = "", about: str = "") -> None:
        super().__init__(message)
        self.message, self.hint, self.about = message, hint, about

    def anew(self) -> Self:
        """The same error, to be raised once more: one that was raised keeps all that it went through."""
        return type(self)(self.message, self.hint, self.about)

    @property
    def text(self) -> str:
        """What people read: the message, and the hint if there is one, a line each."""
        return f"{self.message}\n{self.hint}".rstrip()

    @property
    def line(self) -> str:
        """The same in one line, where a message is part of another text."""
        return in_line(self.message, self.hint)


@dataclass(frozen=True)
class RunError:
    """Why a stage or a question failed, as its process reports it and the store keeps it.

    `place` says where: the stage, its attempt and the worker. The store fills it in.
    """

    kind: str
    message: str
    hint: str = ""
    place: str = ""
    about: str = ""  # as FtqError has it

    @property
    def text(self) -> str:
        """What people read, as that of FtqError."""
        return f"{self.message}\n{self.hint}".rstrip()

    @classmethod
    def of(cls, error: FtqError) -> RunError:
        return cls(error.kind, error.message, error.hint, about=error.about)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunError:
        """Read what `dataclasses.asdict` wrote; other keys don't count."""
        return cls(*(str(values.get(name, "")) for name in ("kind", "message", "hint", "place", "about")))

    def of_run(self, name: str, place: str) -> RunError:
        """Put the run's name into the commands: a stage doesn't know it and writes `ftq retry RUN`."""
        return replace(self, message=with_run(self.message, name), hint=with_run(self.hint, name), place=place)


def with_run(text: str, name: str) -> str:
    """The text with the run's name in its commands: `ftq retry RUN` becomes `ftq retry handbook`."""
    return re.sub(r"(`ftq \w+ )RUN\b", rf"\g<1>{name}", text)


class UserError(FtqError):
    kind = "user"


class NotFound(UserError):
    pass


class NameTaken(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(f"the name {name} is taken", "Choose another --name, or leave it out.")


class Refused(UserError):
    pass


class OutOfMemory(FtqError):
    kind = "memory"


class Lost(FtqError):
    kind = "lost"


class Unavailable(FtqError):
    kind = "lost"


class LeaseLost(FtqError):
    kind = "lost"


@contextlib.contextmanager
def blaming(about: str) -> Iterator[None]:
    """Have every UserError of the block say what it is about, unless it does already."""
    try:
        yield
    except UserError as error:
        error.about = error.about or about
        raise


def exit_code(error: FtqError) -> int:
    """2 for bad usage: an unknown run, option or value; 1 for what failed or isn't allowed now."""
    return 2 if isinstance(error, UserError) and not isinstance(error, Refused) else 1


def unusable(error: OSError) -> Unavailable:
    """What the system refuses to do with a file, and what to do about it."""
    hint = ""
    if is_disk_full(error):
        hint = "Make room on its disk; `ftq gc` deletes old runs."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "Correct its owner and mode, or name another folder: FTQ_HOME is that of all runs."
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
    return Unavailable(where + (error.strerror or str(error)), hint)


def did_you_mean(word: str, known: list[str]) -> str:
    """' Did you mean x?' for the nearest known word, or an empty string."""
    import difflib  # for a person who has mistyped

    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    close = close or [name for name in known if len(word) > 1 and name.startswith(word.lower())]
    return f" Did you mean {close[0]}?" if close else ""


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its name if it has none (MemoryError)."""
    return next(filter(str.strip, lines(str(error))), type(error).__name__)


def in_line(*texts: str) -> str:
    """The texts as sentences of one line. What ends without a sign gets one, but for the last."""
    said = ""
    for text in filter(None, texts):
        said = _joined(said, ". ", "")
        for part in filter(None, (part.strip() for part in lines(text))):
            said = _joined(said, "; ", part)
    return said


def _joined(said: str, sign: str, more: str) -> str:
    return f"{said}{'' if said[-1] == ' ' else ' ' if said[-1] in '.!?:;,' else sign}{more}" if said else more


def is_disk_full(error: OSError) -> bool:
    """Whether a disk, or a user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def lines(text: str) -> list[str]:
    """The lines of a text, which end at line feeds alone; none of an empty one.

    `str.splitlines` ends them at more signs, such as U+2028 and a form feed, which names and answers may hold.
    """
    return text.removesuffix("\n").replace("\r\n", "\n").split("\n") if text else []


def printable(text: str, keep: str = "\n\t") -> str:
    """Replace control characters, which a terminal obeys, by U+FFFD; those of `keep` stay."""
    return text.translate({code: to for code, to in _CONTROL.items() if chr(code) not in keep})


def utf8(text: str) -> str:
    """Replace bytes that aren't UTF-8 by `?`: terminals and databases reject them."""
    return text.encode(errors="replace").decode()
