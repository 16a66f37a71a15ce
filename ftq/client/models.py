"""What finished runs are as models: versions with names and numbers, of which one is `latest`."""

from __future__ import annotations

from pathlib import Path

from ftq.store.records import Run, Version
from ftq.store.store import RunStore


class Models:
    def __init__(self, store: RunStore, home: Path) -> None:
        self.store, self.home = store, home

    def versions(self) -> list[Version]:
        """Every version of every name, the newest first; `gone` says why one isn't there any more."""
        return self.store.versions()

    def promote(self, wanted: str) -> tuple[Run, str | None]:
        """Make a version its name's `latest`: (its run, the version that was it before)."""
        return self.store.promote(self.store.find(wanted).id)

    def other_latest(self, wanted: str, run: Run) -> str:
        """A note for who asks for `handbook`, gets the run of that name and may expect handbook:latest."""
        latest = next((one for one in self.versions() if one.is_latest and one.family == wanted), None)
        if latest is None or latest.run_id == run.id:
            return ""
        return f"{wanted} is the run {run.version_name or run.id}; {wanted}:latest is {latest.name}"
