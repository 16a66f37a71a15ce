"""Room on the server's disk. Only an admin's key may look at what `gc` would delete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftq.client.remote.connection import Connection
from ftq.client.removal import placed
from ftq.files import uploads
from ftq.settings import cache_dir
from ftq.store.records import Run
from ftq.store.wire.records import decode


class RemoteRoom:
    """The methods of ftq.client.removal.Room."""

    def __init__(self, server: Connection, home: Path) -> None:
        self._server = server
        self._places = {"uploads": home / uploads.FOLDER, "home": home, "cache": cache_dir()}

    def removable(self, last: int) -> list[tuple[Run, int]]:
        return [(decode(Run, run), number) for run, number in self._look(last)["removable"]]

    def spared(self, last: int) -> list[str]:
        """As the server says; a server of an earlier ftq says nothing."""
        return [str(text) for text in self._look(last).get("spared", [])]

    def check(self, run: Run) -> None:
        """The server does, when it deletes."""

    def leftovers(self, orphans: bool = False) -> list[tuple[Path, int]]:
        """Paths as they would be here: `removal.why` tells by the folder why nothing needs them. Never any orphans."""
        return [(self._places[one["place"]] / one["name"], one["bytes"]) for one in self._look(0)["leftovers"]]

    def old_questions(self) -> int:
        return int(self._look(0)["questions"])

    def size(self, run: Run) -> int:
        return int(self._sizes([run])["sizes"][0])

    def freed(self, runs: list[Run]) -> int:
        return int(self._sizes(runs)["freed"])

    def staying(self, runs: list[Run]) -> int:
        return int(self._sizes(runs)["staying"])

    def forget_questions(self) -> None:
        self._server.delete("/room/questions")

    def remove(self, run: Run, old: bool = False) -> None:
        self._server.delete(f"/runs/{run.id}", old=int(old))

    def clear(self, leftover: Path) -> None:
        place, name = placed(leftover, self._places)
        self._server.delete("/room/leftovers", place=place, name=name)

    def _look(self, last: int) -> dict[str, Any]:
        answer: dict[str, Any] = self._server.get("/room", last=last)
        return answer

    def _sizes(self, runs: list[Run]) -> dict[str, Any]:
        answer: dict[str, Any] = self._server.post("/room/sizes", {"runs": [run.id for run in runs]})
        return answer
