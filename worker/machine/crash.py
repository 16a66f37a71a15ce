"""How a process ended, in words: native code says nothing itself."""

from __future__ import annotations

import signal

NATIVE = (signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT)
TOO_OLD = "the processor lacks an instruction that it was built with"


def ended(code: int) -> str:
    """`code` as subprocess has it: below 0 it is a signal's."""
    if code >= 0:
        return f"exit code {code}"
    said = signal_name(-code)
    return f"{said}: a crash in native code" if -code in NATIVE and -code != signal.SIGILL else said


def signal_name(number: int) -> str:
    """The signal's name, and what it says of the processor if it says anything."""
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
    return f"{name}: {TOO_OLD}" if number == signal.SIGILL else name
