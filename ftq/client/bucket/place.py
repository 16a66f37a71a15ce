"""Which bucket the files of the queue and of each run are in, and what to say to whoever has named another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from ftq.errors import FtqError, Refused, UserError
from ftq.files.remote.kinds.errors import SERVER, Closed, OutOfReach, endpoint
from ftq.files.remote.kinds.kinds import LOCAL
from ftq.store.records import Run, Worker
from ftq.store.store import RunStore

BUCKET = "FTQ_ARTIFACTS_URL"
Has = Callable[[Run], bool]  # whether the files of a run are in the place that this process looks into


def other_bucket(workers: Sequence[Worker], url: str) -> tuple[str, str] | None:
    """(what is wrong, what to type) where the workers that are up keep files in another place than the bucket `url`."""
    places = {str(one.facts["bucket"]): one.name for one in workers if one.is_live and "bucket" in one.facts}
    if not places or url in places:
        return None
    theirs, name = next(iter(places.items()))
    if not theirs:
        message = f"{_here(url)}, but worker {name} shares a folder and no bucket"
        return message, f"Unset {BUCKET} here, or set it there too."
    return f"{_here(url)}, but worker {name} keeps the files in {theirs}", f"export {BUCKET}={theirs}"


def other_than_last(store: RunStore, url: str, but: str = "") -> tuple[str, str] | None:
    """(what is odd, what to type) where the files of the last run, `but` this, are in another bucket than `url`.

    None where a worker that is up uses `url`.
    """
    last = [run.id for run in store.all(2) if run.id != but][:1]
    theirs = next(iter(store.buckets(last).values()), "")
    if theirs in ("", url) or any(one.is_live and one.facts.get("bucket") == url for one in store.workers()):
        return None
    return f"{_here(url)}, but the files of the last run are in {theirs}", f"export {BUCKET}={theirs}"


def check_removal(store: RunStore, url: str, run: Run, has: Has) -> None:
    """UserError where deleting the run here would leave its files in another bucket."""
    is_known = store.buckets([run.id]).get(run.id)
    if not is_known and (differs := other_bucket(store.workers(), url)):
        raise UserError(*differs)
    if error := elsewhere(store, url, [run], has).get(run.id):
        raise error


def elsewhere(store: RunStore, url: str, runs: Sequence[Run], has: Has) -> dict[str, Refused]:
    """{run id: what to say} of the runs whose files are in another bucket than `url`, as far as anybody knows.

    Those of a bucket that was copied are in both, so `has` is asked where the names differ.
    """
    wrong = dict[str, Refused]()
    places = places_of(store, runs)
    for run in runs:
        theirs = places.get(run.id)
        if theirs and theirs != url and not has(run):
            message = f"{_here(url)}, but the files of {run.name} are in {theirs}"
            wrong[run.id] = Refused(message, f"export {BUCKET}={theirs}")
    return wrong


def places_of(store: RunStore, runs: Sequence[Run]) -> dict[str, str]:
    """{run id: the bucket's URL, or empty for a folder}; of a run of an earlier version that of the workers."""
    places = store.buckets([run.id for run in runs])
    if len(places) < len(runs):
        told = _told(store.workers())
        places = {**dict.fromkeys([run.id for run in runs], told[0]), **places} if told else places
    return places


def advise(error: OutOfReach, store: RunStore | None, url: str) -> OutOfReach:
    """The same error of the bucket, with what the database, if there is one, knows of the right one."""
    if store is None:
        return error
    try:
        workers = store.workers()
        known = _told(workers)
        theirs = known[0] if known else next(iter(store.buckets([run.id for run in store.all(1)]).values()), "")
    except FtqError:
        return error
    hints = [error.hint]
    if theirs not in ("", url):
        right = f"The files of the runs are in {theirs}: export {BUCKET}={theirs}"
        hints = [right] if error.is_lasting or url.startswith(LOCAL) else [right, error.hint]
    elif not error.gives and (server := _server(workers, url)) and not (endpoint(url) and isinstance(error, Closed)):
        hints = [server] if error.is_lasting and not endpoint(url) else [server, error.hint]
    return type(error)(error.message, "\n".join(hints))


def _told(workers: Sequence[Worker]) -> list[str]:
    """Where the workers keep the files, each that has said so: a bucket's URL, or empty for a folder."""
    return [str(one.facts["bucket"]) for one in workers if "bucket" in one.facts]


def _server(workers: Sequence[Worker], url: str) -> str:
    """What to say where workers reach this bucket, and through another server than is named here; else empty.

    A worker names its server once it has reached the bucket through it.
    """
    reach = [one for one in workers if one.facts.get("bucket") == url and one.facts.get("endpoint") and not one.waits]
    names = Counter(str(one.facts["endpoint"]) for one in reach)
    ours = endpoint(url)
    if not names or ours in names:
        return ""
    theirs = names.most_common(1)[0][0]  # one alone may have a name of its own for it, such as a tunnel's end
    worker = next(one.name for one in reach if one.facts["endpoint"] == theirs)
    here = f"{SERVER}={ours}" if ours else f"{SERVER} isn't set here"
    return f"{here}, but worker {worker} reaches this bucket through {theirs}: export {SERVER}={theirs}"


def _here(url: str) -> str:
    return f"{BUCKET}={url}" if url else f"{BUCKET} isn't set here"
