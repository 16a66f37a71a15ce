"""The machine and what is installed on it. Imports little: the worker's doctor uses it too."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

from ftq.doctor.findings import Finding, Level
from ftq.files.abilities import TOO_LONG, keeps_modes, no_lock, no_socket, refusal
from ftq.files.disk import is_fresh
from ftq.version import VERSION

GB = 1e9
LITTLE, NONE = 20.0, 1.0  # GB: what exporting phi-3.5-mini takes at its peak; what nothing works without
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "lustre", "glusterfs", "afs", "virtiofs", "beegfs"}


def python() -> Iterator[Finding]:
    inside = ", in a container" if in_container() else ""
    text = f"ftq {VERSION}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("python", "ok", text + inside)


def in_container(root: Path = Path("/")) -> bool:
    return any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv"))


# ---- versions ---------------------------------------------------------------------------------------------


def pins(name: str) -> dict[str, str]:
    """{package: version} that requirements/<name>.txt and those it takes in (-r) pin for this machine.

    Empty where the file isn't installed.
    """
    from packaging.requirements import Requirement  # here: where it is missing, only this check fails

    file = resources.files("ftq") / "requirements" / f"{name}.txt"
    if not file.is_file():
        return {}
    pinned: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r"):
            pinned |= pins(text.removeprefix("-r").strip().removesuffix(".txt"))
        elif text and ((pin := Requirement(text)).marker is None or pin.marker.evaluate()):
            pinned[pin.name] = str(pin.specifier).removeprefix("==")
    return pinned


def versions(name: str, options: str = "", missing: Level = "problem") -> Iterator[Finding]:
    """What is installed against the pins of requirements/<name>.txt; `options` are pip's."""
    wanted = pins(name)
    if not wanted:
        yield Finding("versions", "note", f"requirements/{name}.txt isn't here: nothing to compare the versions with")
        return
    differing = [finding for package, pin in wanted.items() for finding in _compare(package, pin, options, missing)]
    yield from differing
    if not differing:
        yield Finding("versions", "ok", f"the {len(wanted)} packages of requirements/{name}.txt are as pinned")


def _compare(package: str, pin: str, options: str, missing: Level) -> Iterator[Finding]:
    fix = f"python -m pip install {options + ' ' if options else ''}{package}=={pin}"
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        yield Finding("versions", missing, f"{package} isn't installed, {pin} is pinned", fix)
        return
    if installed.partition("+")[0] != pin:  # torch 2.13.0+cu130 is torch 2.13.0
        yield Finding("versions", "warning", f"{package} {installed} is installed, ftq is tested with {pin}", fix)


# ---- folders ----------------------------------------------------------------------------------------------


def artifacts(home: Path) -> Iterator[Finding]:
    """Whether the artifacts folder can be written, and who else can read it."""
    if not home.exists():
        yield _to_be_made(home)
    elif not home.is_dir():
        yield Finding("artifacts", "problem", f"{home} is no folder", "Set FTQ_HOME to a folder.")
    else:
        yield _writable(home)
        yield from _able(home)
        yield from _private(home)


def _to_be_made(home: Path) -> Finding:
    above = existing(home)
    if why := refusal(above):
        message = f"{home} can't be made: {above} can't be written ({why})"
        return Finding("artifacts", "problem", message, "Set FTQ_HOME to a folder of yours.")
    return Finding("artifacts", "note", f"{home} isn't there yet: the first run makes it")


def _writable(home: Path) -> Finding:
    if why := refusal(home):
        fix = f"sudo chown -R {os.geteuid()} {home}   (or set FTQ_HOME to a folder of yours)"
        return Finding("artifacts", "problem", f"{home} can't be written ({why})", fix)
    return Finding("artifacts", "ok", f"{home} is writable")


def _able(home: Path) -> Iterator[Finding]:
    """What the file system of a folder that can be written lacks. Nothing is said of one that can't."""
    if refusal(home):
        return
    if why := no_lock(home):
        message = f"no file in {home} can be locked ({why}): neither the database nor `ftq up` works there"
        yield Finding("artifacts", "problem", message, "Set FTQ_HOME to a folder on a local disk.")
    if (why := no_socket(home)) and why != TOO_LONG:
        message = f"{home} takes no Unix sockets ({why}): that of the embedded broker goes elsewhere"
        yield Finding("artifacts", "note", message)


def _private(home: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(home.stat().st_mode)
    if is_fresh(home):
        return  # the first run closes it
    if mode & 0o007 and not (refusal(home) or keeps_modes(home)):
        message = f"{home} is on a disk that keeps no modes: everybody on this machine may look at documents and models"
        fix = "Set FTQ_HOME to a folder on another disk, or mount this one with umask=077."
        yield Finding("artifacts", "warning", message, fix)
    elif mode & 0o007:
        message = f"{home} has mode {mode:04o}: everybody on this machine may look at documents and models"
        yield Finding("artifacts", "warning", message, f"chmod 700 {home}")
    elif mode & 0o070:
        yield Finding("artifacts", "note", f"{home} has mode {mode:04o}: its group may look inside")


def disk(check: str, folder: Path, little: float = LITTLE) -> Iterator[Finding]:
    """Free space, in GB (10^9 bytes), where `folder` is or will be."""
    free = shutil.disk_usage(existing(folder)).free / GB
    text = f"{free:.1f} GB free for {folder}"
    fix = "`ftq gc` deletes old runs; or set FTQ_HOME to a larger disk." if check == "artifacts" else "Make room."
    if free < NONE:
        yield Finding(check, "problem", text, fix)
    elif free < little:
        yield Finding(check, "warning", f"{text}; phi-3.5-mini takes about {LITTLE:.0f} GB", fix)
    else:
        yield Finding(check, "ok", text)


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next((above for above in (path, *path.parents) if above.exists()), Path("/"))


def network_type(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the network file system that holds the path, empty for a local one."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = [(line.split(" ")[4], line.rpartition(" - ")[2].split(" ")[0]) for line in lines if " - " in line]
    holding = [(len(point), kind) for point, kind in fields if path.is_relative_to(point.replace("\\040", " "))]
    kind = max(holding, key=lambda pair: pair[0])[1] if holding else ""  # of equal ones the last hides the others
    return kind if kind in NETWORK or kind.startswith("fuse.sshfs") else ""
