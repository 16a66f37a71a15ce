"""The version of ftq, and how more of it is installed.

A module of its own: a folder `ftq` beside the process hides what stands in `ftq/__init__.py`.
"""

from __future__ import annotations

import shlex
from pathlib import Path

VERSION = "0.1.0"


def install(name: str) -> str:
    """The command that installs requirements/NAME.txt: without the source folder, the copy that is in the package."""
    package = Path(__file__).resolve().parent
    is_source = (package.parent / "requirements" / f"{name}.txt").is_file()
    return f"pip install -r {'requirements' if is_source else shlex.quote(str(package / 'requirements'))}/{name}.txt"
