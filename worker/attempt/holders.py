"""Who holds an attempt: a file that the supervisor's process keeps locked, so that its machine sees when it has died.

The kernel frees the lock when the process is dead and not before, whatever killed it; one that is frozen keeps it. A
free lock proves that to whoever asks the same kernel about the same file: its name has the id of the boot, and in it
stand the device and the inode that it had. A living holder's file is open, so these can't be another's. Process ids
prove less: in two containers they are the same. Where anything can't be known the lease is waited for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ftq.files.disk import is_abandoned
from worker.attempt.stage_process import lock_of

FOLDER = "at_work"  # in the artifacts folder
BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one after each start of the kernel


@dataclass(frozen=True)
class Holder:
    """The attempt that a process holds, and the token of its lease."""

    run_id: str
    stage: str
    attempt: int
    worker: str
    token: str


@contextlib.contextmanager
def holding(home: Path, holder: Holder) -> Iterator[None]:
    """Keep the holder's file while the block runs. Without one, on a full disk for example, its death is seen later."""
    path, lock = None, None
    with contextlib.suppress(OSError):
        path, lock = _put(home / FOLDER, holder)
    try:
        yield
    finally:
        if path and lock is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(lock)


def end_the_dead(home: Path, lose: Callable[[Holder], None]) -> None:
    """Call `lose` for each holder that is certainly dead, as is its stage's process, and remove its file then.

    A stage's process that outlives its supervisor saves a checkpoint and ends: it is waited for, until the next call.
    Of several workers that call this at once another one finds the file locked, or the token void.
    """
    with contextlib.suppress(OSError):
        for path in (home / FOLDER).glob(f"{_boot()}.*"):
            with contextlib.suppress(OSError), _locked(path) as lock:
                holder = _read(path, lock)
                if holder and _is_free(lock_of(home / holder.run_id, holder.stage)):
                    lose(holder)
                    path.unlink()
                elif holder is None and is_abandoned(path):  # killed before it was written
                    path.unlink()


def forget_other_boots(home: Path, is_over: Callable[[str], bool]) -> None:
    """Remove the files that an earlier boot has left, or another machine, whose token is over."""
    with contextlib.suppress(OSError):
        for path in (home / FOLDER).iterdir():
            if not path.name.startswith(f"{_boot()}."):
                with contextlib.suppress(OSError):
                    if is_over(_token(path)):
                        path.unlink()


def _put(folder: Path, holder: Holder) -> tuple[Path, int]:
    """(the file, its lock). It is empty until it is locked: one that names a holder and is free is a dead one's."""
    path = folder / f"{_boot()}.{secrets.token_hex(8)}"
    folder.mkdir(exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_free(path):
            raise OSError(f"{folder}: a lock keeps nobody out")
        os.write(lock, json.dumps({"holder": asdict(holder), "file": _identity(lock)}).encode())
    except BaseException:
        os.close(lock)
        path.unlink(missing_ok=True)
        raise
    return path, lock


def _read(path: Path, lock: int) -> Holder | None:
    """Whom the file names; None in a copy, and in what is cut off or another version's."""
    try:
        told = json.loads(path.read_bytes())
        return Holder(**told["holder"]) if told["file"] == _identity(lock) else None
    except (ValueError, KeyError, TypeError):
        return None


def _token(path: Path) -> str:
    """The token in the file; an empty one, which nobody has, in what a power cut has left."""
    try:
        return str(json.loads(path.read_bytes())["holder"]["token"])
    except (ValueError, KeyError, TypeError):
        return ""


def _boot() -> str:
    return BOOT.read_text(encoding="ascii").strip()


def _identity(lock: int) -> list[int]:
    status = os.fstat(lock)
    return [status.st_dev, status.st_ino]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file's lock. BlockingIOError if a process has it."""
    lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    finally:
        os.close(lock)


def _is_free(path: Path) -> bool:
    """Whether no process has the file's lock, or there is no such file."""
    try:
        with _locked(path):
            return True
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
