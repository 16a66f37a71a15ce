"""An operation that dies at each of its steps in turn, as by SIGKILL: in a forked process that ends at once.

A step is a call that changes what others see: a file or folder made, opened for writing, renamed, linked or deleted,
and a commit. Between two of them every moment is as good as the other. No `finally` runs, no buffer is flushed.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa

from ftq.client.client import Client

DIED = 9
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}


def each_death(act: Callable[[Path], object], ready: Path, place: Path) -> Iterator[Path]:
    """A copy of the folder `ready` for each step: in the first `act` has died before its first step, and so on.

    In the last one it has come to its end. Copies are made in `place`, which the steps have to be below.
    """
    shutil.copytree(ready, place / "warm")
    act(place / "warm")  # so that no child has to import anything
    for number in count(1):
        home = place / str(number)
        shutil.copytree(ready, home)
        died = dies(lambda home=home: act(home), number, place)  # type: ignore[misc]
        yield home
        if not died:
            assert number > 1, "it has no step"
            return


def dies(act: Callable[[], object], step: int, below: Path) -> bool:
    """Whether the operation has so many steps; it has died before this one, or has come to its end."""
    child = os.fork()
    if child == 0:
        _live(act, step, str(below))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, DIED), "it failed by itself, see above"
    return code == DIED


def age(folder: Path) -> None:
    """Let two days have passed since anybody wrote there."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (0, time.time() - 2 * 86_400), follow_symlinks=False)


def clear(client: Client) -> None:
    """Let `ftq gc` clear what was left. Then each run has its files, which name it, and nothing half made is there."""
    home = client.settings.home
    leftovers = [path for path, _ in client.room.leftovers()]
    assert len(leftovers) == len(set(leftovers))
    for path in leftovers:
        client.room.clear(path)
    assert client.room.leftovers() == []
    names = {path.name for path in home.rglob("*")}
    assert not [name for name in names if name.endswith((".partial", ".deleted")) or name == ".submitting"]
    folders = {path.parent.name for name in ("run.json", "documents") for path in home.glob(f"*/{name}")}
    assert {name: client.run_dir(name).read_run()["name"] for name in folders} == {
        run.id: run.name for run in client.all()
    }


def _live(act: Callable[[], object], step: int, below: str) -> NoReturn:
    left, lock, busy = [step], threading.Lock(), threading.local()

    def count_down() -> None:
        with lock:
            left[0] -= 1
            if left[0] == 0:
                os._exit(DIED)

    def look(event: str, given: tuple[Any, ...]) -> None:
        if getattr(busy, "now", False):
            return
        if event == "open" and isinstance(given[2], int) and given[2] & WRITING and _is_below(given[0], below):
            count_down()
            with lock:
                if left[0] == 1:  # the next step is this file, of which not a byte is written
                    busy.now = True
                    os.open(given[0], given[2], 0o666)
                    os._exit(DIED)
            count_down()
        elif event in CHANGES and _is_below(given[0], below):
            count_down()

    code = 1
    try:
        sys.addaudithook(look)
        sa.event.listen(sa.engine.Engine, "commit", lambda _: count_down())
        act()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _is_below(path: Any, folder: str) -> bool:
    """Whether it is below the folder; a name relative to an open folder, as rmtree has them, counts as such."""
    if isinstance(path, int):
        return False
    text = os.fsdecode(path)
    return not os.path.isabs(text) or text.startswith(folder)
