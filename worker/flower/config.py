"""Flower's configuration: `celery -A worker.app flower --conf=worker/flower/config.py`. Flower runs this as Python.

FTQ_FLOWER_AUTH_FILE   file of logins, user:password a line (or FTQ_FLOWER_AUTH, the same text); it needs at least one
FTQ_FLOWER_CONTROL     1 allows Terminate and the other controls; otherwise Flower only shows
FTQ_FLOWER_STATE       file in which it keeps what it saw (default: flower/state in the artifacts folder)
FTQ_FLOWER_HOSTS       names, separated by commas, by which it is reached beside localhost and plain addresses
"""

import os
import sys
from pathlib import Path

from ftq.errors import FtqError, UserError
from ftq.settings import Settings
from worker.flower import guard, lengths, login, pages


def _state_file() -> str:
    """The file of Flower's state. It is a pickle, so whoever could write to it could run code here."""
    file = Path(os.environ.get("FTQ_FLOWER_STATE") or Settings.from_env().home / "flower" / "state").absolute()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if file.parent.stat().st_mode & 0o002:
        raise UserError(f"FTQ_FLOWER_STATE: everybody may write to {file.parent}", f"chmod o-w {file.parent}")
    return str(file)


os.umask(0o077)  # its state is for its owner alone
try:
    basic_auth = login.read(os.environ)
    db = _state_file()
except FtqError as error:
    sys.exit(f"Error: {error.text}")
pages.install()
lengths.install()
guard.install(basic_auth, os.environ.get("FTQ_FLOWER_HOSTS", ""))

address = "127.0.0.1"
read_only = os.environ.get("FTQ_FLOWER_CONTROL") != "1"
persistent = True
state_save_interval = 10_000  # milliseconds
tasks_columns = pages.SHOWN
inspect_timeout = 3000.0  # milliseconds
max_tasks = 5000
purge_offline_workers = 600  # seconds
task_runtime_metric_buckets = [1.0, 10.0, 60.0, 600.0, 3600.0, 14400.0, 86400.0]  # seconds; Flower's own end at 10
