"""A file that arrives: written while it is checked and counted, and kept as a whole or not at all."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ftq.errors import is_disk_full
from ftq.files.uploads import Writer
from ftq.store.gateway.files import File, Full
from ftq.store.gateway.keys import Key
from gateway.errors import ApiError
from gateway.files.form import Form
from gateway.files.lines import Lines
from gateway.limits import over_quota
from gateway.shared import Gateway

FINE_TUNE = "fine-tune"
FULL = "This takes more than the key may still store: delete files or runs to make room."
log = logging.getLogger("ftq.gateway")


class Arrival:
    """The sink of an upload, in `arriving`'s block."""

    def __init__(self, writer: Writer, most: int, room: int | None = None, lines: Lines | None = None) -> None:
        """`most` is the largest size, `room` what the key may still store. `lines` checks a file, not a part of one."""
        self.writer, self.lines = writer, lines
        self._most, self._room = most, room

    def write(self, piece: bytes, form: Form) -> None:
        """Take the next piece; ApiError as soon as it is too much, or the training file is none."""
        size_now = self.writer.bytes + len(piece)
        if size_now > self._most:
            raise too_large(self._most)
        if self._room is not None and size_now > self._room:
            raise over_quota(FULL)
        self.writer.write(piece)
        purpose = form.fields.get("purpose")
        if self.lines and purpose in (None, FINE_TUNE):  # Node sends the purpose after the file
            self.lines.feed(piece)
            self._check_lines(purpose)

    def checked(self, file_id: str, owner: str, filename: str, purpose: str) -> File:
        """The file, whose bytes the caller puts in place and records. ApiError for a training file that is none."""
        number = self.lines.end() if self.lines and purpose == FINE_TUNE else None
        if self.writer.bytes == 0 or number == 0:
            raise ApiError(400, "File is empty.", param="file", code="invalid_file")
        self._check_lines(purpose)
        return File(file_id, owner, filename, purpose, self.writer.bytes, self.writer.sha256, lines=number)

    def _check_lines(self, purpose: str | None) -> None:
        if purpose == FINE_TUNE and self.lines and self.lines.fault:
            raise ApiError(400, self.lines.fault, param="file", code="invalid_file")


@contextlib.contextmanager
def arriving(
    gateway: Gateway,
    file_id: str,
    most: int,
    room: int | None = None,
    lines: Lines | None = None,
    declared: int = 0,
) -> Iterator[Arrival]:
    """An arrival that leaves nothing if the block fails. What is `declared` too large is refused at once."""
    if declared > most:
        raise too_large(most)
    with clear_errors(), gateway.files.writing(file_id) as writer:
        yield Arrival(writer, most, room, lines)


def room_of(gateway: Gateway, caller: Key) -> int | None:
    """Bytes that the key may still store; None without a limit."""
    limit = caller.limits.bytes
    return max(0, limit - gateway.client.store.files.used(caller.id)) if limit else None


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """A full disk and a full key as clients read them: both are final, and nobody sends gigabytes again."""
    try:
        yield
    except Full as error:
        raise over_quota(error.text) from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        log.error("the disk is full: %s", error.filename or error)
        raise ApiError(
            507,
            "The server's disk is full: nothing of the file was kept.",
            kind="server_error",
            code="disk_full",
            headers={"x-should-retry": "false"},
        ) from None


def too_large(most: int, param: str = "file") -> ApiError:
    return ApiError(413, f"More than {most:,} bytes aren't taken.", param=param, code="file_too_large")
