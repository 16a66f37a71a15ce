"""How every program of ftq begins: what it may take for granted, and what Ctrl-C does.

`python -m ftq.start MODULE ARGUMENTS...` runs a module that Ctrl-C ends without a traceback while it imports. Imports
take tenths of a second. Python answers Ctrl-C in them with a traceback of whatever line it was at.
"""

from __future__ import annotations

import codecs
import io
import os
import pwd
import signal
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

INTERRUPTED = 130  # what shells report for Ctrl-C
lacking: dict[str, int] = {}  # {encoding: how many characters of standard output it lacked}


def settle(environ: MutableMapping[str, str] = os.environ) -> None:
    """Give this process, and those that it starts, what every program takes for granted.

    Three open descriptors, outputs that take every character, a home folder that can be written, a user's name.
    """
    _open_descriptors()
    codecs.register_error("ftq", _replace)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "ftq")):  # standard error has backslashes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    _find_home(environ)
    if not {"LOGNAME", "USER", "LNAME", "USERNAME"} & environ.keys() and _account() is None:
        environ["USER"] = f"uid-{os.getuid()}"  # PyTorch's compiler asks for it


def _replace(error: UnicodeError) -> tuple[str, int]:
    """What an output's encoding lacks becomes a question mark, and is counted."""
    assert isinstance(error, UnicodeEncodeError)
    lacking[error.encoding] = lacking.get(error.encoding, 0) + error.end - error.start
    return "?" * (error.end - error.start), error.end


def _open_descriptors() -> None:
    """Open those of 0, 1 and 2 that were closed: the next file, a database say, would get the number and the output."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif descriptor and not os.get_blocking(descriptor):
            os.set_blocking(descriptor, True)  # whoever reads may be slow: half an answer isn't one


def _find_home(environ: MutableMapping[str, str]) -> None:
    """Set HOME where there is none that can be written: what is downloaded or made again then lies with the artifacts.

    Models that lie in a home folder of which only reading is allowed are still found.
    """
    account = _account()
    home = environ.get("HOME") or (account.pw_dir if account else "")
    if os.path.isabs(home) and any(os.access(folder, os.W_OK) for folder in (home, f"{home}/.cache")):
        return
    environ["HOME"] = os.path.join(os.path.abspath(environ.get("FTQ_HOME") or "artifacts"), ".home")
    if "XDG_CACHE_HOME" not in environ and os.path.isdir(models := f"{home}/.cache/huggingface/hub"):
        environ.setdefault("HF_HUB_CACHE", models)


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:  # a user id that no passwd file knows, as containers have
        return None


def end_at_ctrl_c() -> None:
    """Let Ctrl-C end this process at once and in silence, which shells report as exit code 130.

    For as long as nothing has to be put away. A process that was told to ignore Ctrl-C goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C a KeyboardInterrupt, where `end_at_ctrl_c` has made it the end of the process."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    end_at_ctrl_c()
    settle()
    import runpy

    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
