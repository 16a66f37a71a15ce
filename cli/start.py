"""Where the command `ftq` begins: before the client is imported, so that Ctrl-C never shows a traceback."""

from __future__ import annotations

import sys

from ftq.start import end_at_ctrl_c, lacking, settle


def main() -> None:
    end_at_ctrl_c()
    settle()
    from cli.main import main as ftq

    try:
        ftq()
    except OSError as error:  # even the help, or an error, can't be written: the disk is full
        sys.exit(f"Error: {error.strerror}")
    finally:
        _say_what_was_lacking()


def _say_what_was_lacking() -> None:
    for encoding, number in lacking.items():
        what = "a character" if number == 1 else f"{number} characters"
        sys.stderr.write(f"Note: {encoding} lacks {what}, shown as ?. LANG=C.UTF-8 or --json shows all.\n")
