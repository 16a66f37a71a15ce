"""Machines that share nothing: each a network namespace of its own behind one router, which can cut any from any.

    servers (10.77.0.11 to .13)  ---  router  ---  machine a (10.77.1.2), machine b (10.77.2.2) ...

A cut lets packets vanish in the router, both ways and without a word, as a dead switch or a firewall does. A namespace
has no name and no process: the kernel removes it, and all that is in it, when this process and those in it have ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

NEW_NETWORK = 0x40000000  # CLONE_NEWNET
SERVERS = {"bucket": "10.77.0.11", "database": "10.77.0.12", "broker": "10.77.0.13"}
ALONE = """
mount --bind "$1" /mnt && mount -t tmpfs none "$2" && mkdir -p "$1" && mount --move /mnt "$1"  # hides $2, but for $1
shift 2
exec "$@"
"""
_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Why no such machines can be made here; empty if they can."""
    tools = [name for name in ("ip", "nsenter", "unshare") if not shutil.which(name)]
    if tools:
        return f"no {' or '.join(tools)}: apt-get install iproute2 util-linux"
    try:
        with tempfile.TemporaryDirectory() as folder, Network() as network:
            mine = Path(folder, "mine")
            mine.mkdir()
            run([*alone(network.add("mine"), mine, Path(folder)), "true"])
    except OSError as error:
        return f"network namespaces can't be made here ({error.strerror}): run it as root"
    except subprocess.CalledProcessError as error:
        return f"machines that share nothing can't be made here ({error.stderr.strip()}): it takes all rights of root"
    return ""


class Space:
    """A network namespace. `prefix` begins the command of a process that shall be in it."""

    def __init__(self) -> None:
        self.fd = -1
        errors = list[OSError]()

        def make() -> None:
            try:
                _check(_libc.unshare(NEW_NETWORK))
                self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                errors.append(error)

        thread = threading.Thread(target=make)  # it alone is moved, and ends
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.prefix = ["nsenter", f"--net={self.path}", "--"]

    def run(self, command: str) -> None:
        run([*self.prefix, "sh", "-euc", command])

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts meanwhile, is in the namespace."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.fd, NEW_NETWORK))
            yield
        finally:
            _check(_libc.setns(before, NEW_NETWORK))
            os.close(before)

    def close(self) -> None:
        os.close(self.fd)


class Network:
    """The router, the servers' place, and machines that are joined to it. Use it as a context manager."""

    def __init__(self) -> None:
        self.router, self.servers = Space(), Space()
        self.machines: dict[str, Space] = {}
        self.router.run("ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward")
        self._join(self.servers, "servers", 0)
        self.servers.run("".join(f"ip address add {address}/32 dev up0;" for address in SERVERS.values()))

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        for space in (*self.machines.values(), self.servers, self.router):
            space.close()

    def add(self, name: str) -> Space:
        """A machine's place."""
        space = self.machines[name] = Space()
        self._join(space, name, len(self.machines))
        return space

    def cut(self, machine: str, *servers: str, answers_only: bool = False) -> None:
        """Let every packet between the machine and these servers vanish; or only those that come from the servers."""
        self._rule("add", machine, servers, answers_only)

    def join(self, machine: str, *servers: str, answers_only: bool = False) -> None:
        """End such a cut."""
        self._rule("delete", machine, servers, answers_only)

    def _rule(self, verb: str, machine: str, servers: tuple[str, ...], answers_only: bool) -> None:
        mine = self._address(list(self.machines).index(machine) + 1)
        pairs = [(SERVERS[server], mine) for server in servers]
        pairs += [] if answers_only else [(mine, SERVERS[server]) for server in servers]
        self.router.run(";".join(f"ip rule {verb} from {one} to {other} blackhole" for one, other in pairs))

    def _join(self, space: Space, name: str, number: int) -> None:
        mine, routers = self._address(number), f"10.77.{number}.1"
        self.router.run(f"ip link add to{number} type veth peer name up0 netns {space.path}; "
                        f"ip address add {routers}/24 dev to{number}; ip link set to{number} up")  # fmt: skip
        space.run(f"ip link set lo up; ip address add {mine}/24 dev up0; ip link set up0 up; "
                  f"ip route add default via {routers}")  # fmt: skip

    @staticmethod
    def _address(number: int) -> str:
        return f"10.77.{number}.2"


def alone(space: Space, mine: Path, everybodys: Path) -> list[str]:
    """The beginning of a command that runs in the namespace and sees nothing of `everybodys` but its own folder."""
    return [*space.prefix, "unshare", "--mount", "--", "sh", "-euc", ALONE, "sh", str(mine), str(everybodys)]


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
