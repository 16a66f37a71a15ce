"""What the gateway keeps, as parts of the store: keys, sessions, files, uploads, jobs, webhooks."""

from __future__ import annotations

from functools import cached_property

from ftq.store.database import Database
from ftq.store.fleet.notices import Notices
from ftq.store.fleet.numbers import Numbers, numbers
from ftq.store.fleet.turns import next_in_turn
from ftq.store.fleet.waits import at_work, next_of_owner
from ftq.store.gateway.files import Files
from ftq.store.gateway.jobs import Jobs
from ftq.store.gateway.keys import Keys, Sessions
from ftq.store.gateway.uploads import Uploads
from ftq.store.gateway.webhooks import Webhooks
from ftq.store.records import Run


class GatewayParts(Database):
    """A part of RunStore."""

    @cached_property
    def keys(self) -> Keys:
        """The API keys of the gateway."""
        return Keys(self)

    @cached_property
    def sessions(self) -> Sessions:
        """The people at the gateway's page."""
        return Sessions(self)

    @cached_property
    def files(self) -> Files:
        """The files of the gateway."""
        return Files(self)

    @cached_property
    def uploads(self) -> Uploads:
        """Files that are uploaded in parts."""
        return Uploads(self)

    @cached_property
    def jobs(self) -> Jobs:
        """Runs as the gateway's clients ask for them."""
        return Jobs(self)

    @cached_property
    def webhooks(self) -> Webhooks:
        """Who is told that runs have ended."""
        return Webhooks(self)

    @cached_property
    def notices(self) -> Notices:
        """Who is told what happens to runs and workers."""
        return Notices(self)

    def next_in_turn(self, run_id: str, stage: str, owner_limit: int = 0) -> Run | None:
        """The run that should follow one whose stage has just begun, so that every owner gets a turn."""
        return next_in_turn(self, run_id, stage, owner_limit)

    def next_of_owner(self, run_id: str, owner_limit: int) -> Run | None:
        """The run that may begin now that another one of its owner has ended."""
        return next_of_owner(self, run_id, owner_limit)

    def at_work_of(self, owner: str) -> int:
        """How many runs of the owner are at work."""
        with self.reading() as db:
            return at_work(db).get(owner, 0)

    def numbers(self) -> Numbers:
        """The whole queue in numbers."""
        return numbers(self)
