"""How a process ended, in words: native code says nothing itself."""

from __future__ import annotations

import signal

NATIVE = (signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT)
TOO_OLD = "the processor lacks an instruction that it was built with"


def ended(code: int) -> str:
    """`code` as subprocess has it: below 0 it is a signal's."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"
    if -code == signal.SIGILL:
        return f"{name}: {TOO_OLD}"
    return f"{name}: a crash in native code" if -code in NATIVE else name
