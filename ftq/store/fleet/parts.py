"""What is asked and told of the whole fleet, as parts of the store: places, turns, numbers, notices."""

from __future__ import annotations

from functools import cached_property

from ftq.store.fleet.notices import Notices
from ftq.store.fleet.numbers import Counts
from ftq.store.fleet.places import Places
from ftq.store.fleet.turns import Turns


class FleetParts(Places, Turns, Counts):
    """A part of RunStore."""

    @cached_property
    def notices(self) -> Notices:
        """Who is told what happens to runs and workers."""
        return Notices(self)
