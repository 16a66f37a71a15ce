"""Which broker the workers use, where none answers here or none of them listens on this one.

And that FTQ_BROKER_URL isn't set where it isn't.
"""

from __future__ import annotations

from collections.abc import Iterable

from ftq.broker.refusals import refusal
from ftq.errors import UserError
from ftq.servers import place_of, without_password
from ftq.settings import Settings
from ftq.store.records import Worker

UNSET = "FTQ_BROKER_URL isn't set here"
_START = "`ftq up` starts this machine's own"


def advice(settings: Settings, workers: Iterable[Worker] = ()) -> str:
    """What to type, in a sentence or two. `workers` are those that the database knows."""
    theirs = broker_of(workers, settings)
    if not settings.embedded:
        return f"Check that a server is there: FTQ_BROKER_URL={without_password(settings.broker_url)}{_other(theirs)}"
    if theirs:
        return f"{UNSET}.{_other(theirs)}"
    if not settings.own_database:  # a team's database: its workers have a broker too
        return f"{UNSET}: set it to the broker of the workers, or {_START}."
    return f"{UNSET}: {_START}."


def refused(error: BaseException, settings: Settings) -> UserError | None:
    """What to say of a broker that is there and refuses this process for good; None where waiting may mend it."""
    why = refusal(error)
    place = f"FTQ_BROKER_URL={without_password(settings.broker_url)}"
    return UserError(f"{place}: the broker {why.what} ({why.words})", why.fix) if why.lasts else None


def broker_of(workers: Iterable[Worker], settings: Settings) -> tuple[str, str] | None:
    """(a worker that is up and takes its messages from another broker on the network, that broker)."""
    own = "" if settings.embedded else place_of(settings.broker_url)
    for one in workers:
        place = str(one.facts.get("broker") or "")
        if one.is_live and place and place != own:
            return one.name, place
    return None


def deaf(settings: Settings, workers: Iterable[Worker]) -> tuple[str, str] | None:
    """(who listens on which broker, what to type) where workers are up and all name another broker than this one.

    Two names may mean one broker: who asks has looked that no worker says in it that it is up (owner.UP).
    """
    live = [one for one in workers if one.is_live and "broker" in one.facts]
    own = "" if settings.embedded else place_of(settings.broker_url)
    if not live or any(one.facts["broker"] == own for one in live):
        return None
    other = min(live, key=lambda one: (not one.facts["broker"], one.name))  # one on the network before the others
    here = settings.broker_socket if settings.embedded else own
    if place := str(other.facts["broker"]):
        message = f"no worker listens on {here}; worker {other.name} listens on {place}"
        return message, f"export FTQ_BROKER_URL={place}   (as {other.host} names it; FTQ_BROKER_PASSWORD_FILE)"
    message = f"no worker listens on {here}; worker {other.name} listens on the broker of `ftq up` on {other.host}"
    fix = "Several machines need a broker of theirs (docs/deploy.md)."
    return message, f"On {other.host}: unset FTQ_BROKER_URL. {fix}"


def _other(theirs: tuple[str, str] | None) -> str:
    if theirs is None:
        return ""
    name, place = theirs
    return f" Worker {name} takes its runs from another: export FTQ_BROKER_URL={place}   (and FTQ_BROKER_PASSWORD_FILE)"
