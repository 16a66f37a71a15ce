"""What the gateway keeps, as parts of the store: keys, sessions, files, uploads, jobs, webhooks."""

from __future__ import annotations

from functools import cached_property

from ftq.store.database import Database
from ftq.store.gateway.files import Files
from ftq.store.gateway.jobs import Jobs
from ftq.store.gateway.keys import Keys, Sessions
from ftq.store.gateway.uploads import Uploads
from ftq.store.gateway.webhooks import Webhooks


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
