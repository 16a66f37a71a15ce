"""The version of ftq. A module of its own: a folder `ftq` beside the process hides what stands in `ftq/__init__.py`."""

from __future__ import annotations

VERSION = "0.1.0"
