"""What to do where no broker answers: which one the workers use, and that FTQ_BROKER_URL isn't set where it isn't."""

from __future__ import annotations

from collections.abc import Iterable

from ftq.errors import UserError
from ftq.servers import place_of, refusal, without_password
from ftq.settings import Settings
from ftq.store.records import Worker

UNSET = "FTQ_BROKER_URL isn't set here"
LASTING = (  # of what ftq.servers.REFUSALS calls a broker: until somebody corrects a setting, here or there
    "wants a password",
    "refuses the user or password",
    "forbids its user what ftq needs",
    "is in protected mode: it takes no other machine",
    "is a Redis Cluster, which Celery can't use",
    "has no database of that number",
    "knows no queues: it is a Sentinel or a proxy",
    "is no Redis server",
    "has a certificate that nobody vouches for",
    "doesn't speak TLS",
)
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
    what, fix, words = refusal(error)
    if what not in LASTING:
        return None
    return UserError(f"FTQ_BROKER_URL={without_password(settings.broker_url)}: the broker {what} ({words})", fix)


def broker_of(workers: Iterable[Worker], settings: Settings) -> tuple[str, str] | None:
    """(a worker that is up and takes its messages from another broker on the network, that broker)."""
    own = "" if settings.embedded else place_of(settings.broker_url)
    for one in workers:
        place = str(one.facts.get("broker") or "")
        if one.is_live and place and place != own:
            return one.name, place
    return None


def _other(theirs: tuple[str, str] | None) -> str:
    if theirs is None:
        return ""
    name, place = theirs
    return f" Worker {name} takes its runs from another: export FTQ_BROKER_URL={place}   (and FTQ_BROKER_PASSWORD_FILE)"
