"""Runs: looking at them, and what a person may change about one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftq.client.recording.names import free_name
from ftq.client.removal import placed
from ftq.client.workers import Member
from ftq.files import uploads
from ftq.settings import cache_dir
from ftq.store.records import Run
from ftq.version import VERSION
from gateway.errors import ApiError
from gateway.own import answers
from gateway.own.entry import Call

if TYPE_CHECKING:
    from ftq.evaluation.compare import Comparison


def about(call: Call) -> answers.About:
    lease, key, largest = call.gateway.settings.lease_seconds, call.key, call.gateway.options.largest_upload
    return answers.About(VERSION, lease, key.name, key.admin, largest, key.id)


# ---- look -------------------------------------------------------------------------------------------------


def listed(call: Call) -> answers.Runs:
    store = call.client.store
    return answers.Runs(store.all(call.query.limit, call.owner), store.count(call.owner))


def find(call: Call) -> Run:
    return call.named(call.query.run)


def one(call: Call) -> Run:
    return call.run


def events(call: Call) -> answers.Events:
    return answers.Events(call.client.store.events(call.run.id, call.query.after))


def versions(call: Call) -> answers.Versions:
    return answers.Versions(call.client.store.versions(call.owner))


def workers(call: Call) -> answers.Workers:
    """The workers, and to an admin what they do: the names of runs are their owners'."""
    members = call.client.fleet.all()
    if call.owner is None:
        return answers.Workers(members)
    at_work = [one.run_id for member in members for one in member.work]
    mine = {run.id for run in call.client.store.some(at_work, call.owner)}
    return answers.Workers([_seen(member, mine) for member in members])


def _seen(member: Member, mine: set[str]) -> Member:
    """The worker, with the runs of others left nameless."""
    work = (one if one.run_id in mine else replace(one, run_id="", run="another's") for one in member.work)
    return replace(member, work=tuple(work))


def drain(call: Call) -> Member:
    return call.client.fleet.drain(call.body.name)[0]


def undrain(call: Call) -> Member:
    return call.client.fleet.undrain(call.body.name)[0]


def forget(call: Call) -> Member:
    return call.client.fleet.forget(call.body.name)[0]


def plans(call: Call) -> answers.Plans:
    return answers.Plans(call.client.store.plans_on(_stored(call.query.card), _stored(call.query.model)))


def last_plan(call: Call) -> answers.Plan:
    card = call.query.card
    return answers.Plan(call.client.store.last_plan(None if card is None else _stored(card)))


def name(call: Call) -> answers.Name:
    """The name that the next run of a family would get, as far as the caller's own runs tell."""
    return answers.Name(free_name(call.client.store, _stored(call.query.name), call.owner))


def compare(call: Call) -> Comparison:
    a, b = (call.named(wanted).id for wanted in (call.query.a, call.query.b))
    return call.client.compare(a, b)


# ---- control ----------------------------------------------------------------------------------------------


def cancel(call: Call) -> answers.Told:
    return answers.Told(call.client.cancel(call.run.id), [])


def pause(call: Call) -> answers.Told:
    return answers.Told(call.client.pause(call.run.id), [])


def resume(call: Call) -> answers.Told:
    return answers.Told(*call.client.resume(call.run.id))


def retry(call: Call) -> answers.Told:
    return answers.Told(*call.client.retry(call.run.id, call.body.from_stage))


def keep(call: Call) -> answers.Told:
    return answers.Told(call.client.keep(call.run.id, call.body.kept), [])


def promote(call: Call) -> answers.Promoted:
    return answers.Promoted(*call.client.models.promote(call.run.id))


# ---- room on the disk -------------------------------------------------------------------------------------


def remove(call: Call) -> answers.Done:
    call.client.room.remove(call.run, old=bool(call.query.old))
    return answers.Done()


def sizes(call: Call) -> answers.Sizes:
    room, runs = call.client.room, [call.run_of(run_id) for run_id in call.body.runs]
    return answers.Sizes([room.size(run) for run in runs], room.freed(runs), room.staying(runs))


def room(call: Call) -> answers.Room:
    found, places = call.client.room, _places(call)
    leftovers = [answers.Leftover(*placed(path, places), size) for path, size in found.leftovers()]
    last = call.query.last
    return answers.Room(found.removable(last), leftovers, found.old_questions(), found.spared(last))


def clear(call: Call) -> answers.Done:
    """Delete one leftover, if it is one: another name deletes nothing."""
    path = _places(call)[call.query.place] / call.query.name
    if path not in [leftover for leftover, _ in call.client.room.leftovers()]:
        raise ApiError(404, f"There is no leftover {call.query.name!r}.")
    call.client.room.clear(path)
    return answers.Done()


def forget_questions(call: Call) -> answers.Done:
    call.client.room.forget_questions()
    return answers.Done()


def _places(call: Call) -> dict[str, Path]:
    home = call.gateway.settings.home
    return {"uploads": home / uploads.FOLDER, "cache": cache_dir(), "home": home}


def _stored(text: str) -> str:
    """The text without what PostgreSQL refuses."""
    return text.replace("\0", "")
