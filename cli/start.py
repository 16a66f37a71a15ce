"""Where the command `ftq` begins: before the client is imported, so that Ctrl-C never shows a traceback."""

from __future__ import annotations

import sys

from ftq.start import end_at_ctrl_c


def main() -> None:
    end_at_ctrl_c()
    from cli.main import main as ftq

    try:
        ftq()
    except OSError as error:  # even the help, or an error, can't be written: the disk is full
        sys.exit(f"Error: {error.strerror}")
