"""/ftq/v1: which path is answered by whom. openapi.py describes this table."""

from __future__ import annotations

from starlette.routing import Route

from ftq.client.workers import Member
from ftq.store.records import Run
from gateway.own import answers, ask, files, runs, submit
from gateway.own.entry import Entry, Nothing
from gateway.own.openapi import describe

RUN = "/runs/{run_id}"
BYTES, PAGE = "application/octet-stream", "text/html"

TABLE = [
    Entry("GET", "/about", runs.about, "The server's version and whose key this is", answers.About),
    Entry("GET", "/runs", runs.listed, "The runs, the newest first", answers.Runs, answers.Latest),
    Entry("POST", "/runs", submit.submit, "Submit a run with its documents", answers.Told, raw=True),
    Entry("GET", "/find", runs.find, "The run of an id, name or version", Run, answers.ByName),
    Entry("GET", RUN, runs.one, "A run with its stages", Run),
    Entry("DELETE", RUN, runs.remove, "Delete a run and its files", answers.Done, answers.Old),
    Entry("POST", RUN + "/cancel", runs.cancel, "Stop a run for good", answers.Told, body=Nothing),
    Entry("POST", RUN + "/pause", runs.pause, "Halt a run and keep its place", answers.Told, body=Nothing),
    Entry("POST", RUN + "/resume", runs.resume, "Let a paused run go on", answers.Told, body=Nothing),
    Entry("POST", RUN + "/retry", runs.retry, "Take a run up again", answers.Told, body=answers.Retry),
    Entry("POST", RUN + "/keep", runs.keep, "Whether gc spares a run", answers.Told, body=answers.Keep),
    Entry("POST", RUN + "/promote", runs.promote, "Make it NAME:latest", answers.Promoted, body=Nothing),
    Entry("GET", RUN + "/events", runs.events, "What happened to a run", answers.Events, answers.After),
    Entry("GET", RUN + "/files", files.listed, "The files of a run", answers.RunFiles),
    Entry("GET", RUN + "/files/{name:path}", files.content, "A file of a run, or a range of it", BYTES, raw=True),
    Entry("GET", RUN + "/model", files.model, "The files of a run's model", answers.ModelParts, answers.Kind),
    Entry("GET", RUN + "/report", files.report, "A page on a run", PAGE),
    Entry("GET", "/versions", runs.versions, "Finished runs as numbered models", answers.Versions),
    Entry("GET", "/compare", runs.compare, "Two runs side by side", answers.comparison, answers.Two),
    Entry("GET", "/workers", runs.workers, "The workers", answers.Workers),
    Entry("POST", "/workers/drain", runs.drain, "Let one take nothing new", Member, body=answers.Named, admin=True),
    Entry("POST", "/workers/undrain", runs.undrain, "Let one take work again", Member, body=answers.Named, admin=True),
    Entry("POST", "/workers/forget", runs.forget, "Drop one that is gone", Member, body=answers.Named, admin=True),
    Entry("GET", "/plans", runs.plans, "What runs on a card measured", answers.Plans, answers.Card),
    Entry("GET", "/plans/last", runs.last_plan, "The last run's plan", answers.Plan, answers.AnyCard),
    Entry("GET", "/names/free", runs.name, "What the next run would be called", answers.Name, answers.Wanted),
    Entry("POST", "/ask", ask.ask, "Ask a run's model", ask.MEDIA_TYPE, body=answers.Ask, raw=True),
    Entry("POST", "/evaluate", ask.evaluate, "Score a run's models", ask.MEDIA_TYPE, body=answers.Evaluate, raw=True),
    Entry("POST", "/room/sizes", runs.sizes, "What deleting runs frees", answers.Sizes, body=answers.These),
    Entry("GET", "/room", runs.room, "What gc would delete", answers.Room, answers.Last, admin=True),
    Entry("DELETE", "/room/leftovers", runs.clear, "Delete a leftover", answers.Done, answers.Left, admin=True),
    Entry("DELETE", "/room/questions", runs.forget_questions, "Delete old questions", answers.Done, admin=True),
]

routes: list[Route] = [describe(TABLE), *(entry.route for entry in TABLE)]
