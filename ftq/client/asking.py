"""Ask a finished run: the question goes into the database, the broker rings, the answer is read while it is written.

The database is the truth: a message that the broker has lost is sent again, and a worker that died is noticed.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from ftq.client.workers import resting, start, undraining
from ftq.errors import FtqError, Refused, RunError, Unavailable, UserError, did_you_mean
from ftq.store.records import ASK, Run, served_by
from ftq.store.store import RunStore

OPTIONS = ("quant", "base", "max_tokens", "temperature", "seed")
MAX_PROMPT = 1_000_000  # bytes: more than any model of the catalogue reads
RING_SECONDS = 20.0  # after which a question that no worker took is sent again; it is answered once
LOOK_SECONDS = 2.0  # how often the worker that answers is looked for
AT_ONCE = 8  # questions of a list that are on their way together
SEEDED = 2  # of those with a seed, which a worker answers one at a time: one that it writes, and its next
SHORT, LONG = 0.05, 0.2  # seconds between two looks at the answer: at first and when it grows, later

Pieces = Generator[str, None, dict[str, Any]]  # the text as it is written; the return value is the whole answer
Value = TypeVar("Value")


@dataclass
class Sent:
    """A question on its way; `rung` and `looked` say when, by time.monotonic."""

    id: str
    prompt: str
    rung: float = field(default_factory=time.monotonic)
    looked: float = field(default_factory=time.monotonic)


class Failed(FtqError):
    """The worker's error. It concerns this question alone."""

    def __init__(self, error: RunError) -> None:
        super().__init__(error.message, error.hint)
        self.kind, self.error = error.kind, error


class Asking:
    """`ring` sends a question's message or raises Unavailable; `no_broker` says what to do if nobody is there."""

    def __init__(
        self,
        store: RunStore,
        ring: Callable[[str], None],
        no_broker: Callable[[], str],
        hung_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """`hung_up` says whether nobody waits for the answer any more."""
        self.store, self._ring, self._no_broker, self._hung_up = store, ring, no_broker, hung_up

    def stream(self, run_id: str, prompt: str, options: dict[str, Any], patience: float) -> Pieces:
        """Yield the answer piece by piece. The first `next` asks; a generator closed early withdraws the question.

        FtqError where nothing new was written for `patience` seconds.
        """
        sent = Sent(self.store.ask(run_id, prompt, options), prompt)
        try:
            self._ring_for(sent)
            return (yield from self._read(sent, patience))
        except BaseException:  # also Ctrl-C: nobody waits for the answer
            self._withdraw(sent)
            raise

    def many(
        self, run_id: str, prompts: Iterable[str], options: dict[str, Any], patience: float
    ) -> Iterator[dict[str, Any]]:
        """Yield the answers in order, several asked together; {"prompt", "error"} for a question that failed."""
        left, waiting = iter(prompts), deque[Sent]()
        most = AT_ONCE if options.get("seed") is None else SEEDED
        try:
            while True:
                while len(waiting) < most and (prompt := next(left, None)) is not None:
                    waiting.append(Sent(self.store.ask(run_id, prompt, options), prompt))
                    self._ring_for(waiting[-1])
                if not waiting:
                    return
                answer = self._answer_or_error(waiting[0], patience)
                waiting.popleft()
                yield answer
        finally:
            for sent in waiting:
                self._withdraw(sent)

    def check_worker(self) -> None:
        """FtqError if no worker that is up answers questions."""
        live = sorted((one for one in self.store.workers() if one.is_live), key=lambda one: one.name)
        if not live:
            raise FtqError("no worker is up, so nobody can answer", start())
        if not any(ASK in one.queues and not one.drained for one in live):
            listed = "; ".join(f"{one.name} serves {', '.join(sorted(one.queues))}" for one in live)
            drained, served = [one for one in live if one.drained], served_by(one for one in live if one.takes)
            if undrain := undraining({ASK}, drained):
                raise FtqError(f"{resting({ASK}, drained, served)}, so nobody can answer", undrain)
            raise FtqError(
                f"no worker serves the queue {ASK}, so nobody can answer ({listed})",
                f"`ftq worker --queues {ASK}` starts one. Workers of an earlier ftq serve it once they are restarted.",
            )

    def _answer_or_error(self, sent: Sent, patience: float) -> dict[str, Any]:
        try:
            return drain(self._read(sent, patience))
        except Failed as error:
            return {"prompt": sent.prompt, "error": asdict(error.error)}

    def _read(self, sent: Sent, patience: float) -> Pieces:
        shown, pause, until = "", SHORT, time.monotonic() + patience
        while True:
            reply = self.store.read_answer(sent.id)
            if reply.error:
                raise Failed(reply.error)
            text = reply.answer["answer"] if reply.answer else reply.written
            if len(text) > len(shown):
                yield text[len(shown) :]
                shown, pause, until = text, SHORT, time.monotonic() + patience
            if reply.answer:
                return reply.answer
            if self._hung_up():
                raise FtqError("nobody waits for the answer any more")
            if time.monotonic() > until:
                raise FtqError(f"no answer within {patience:.0f} s", _who_is_to_blame(reply.status))
            self._look_after(sent, reply.status)
            time.sleep(pause)
            pause = min(1.2 * pause, LONG)

    def _look_after(self, sent: Sent, status: str) -> None:
        now = time.monotonic()
        if status == "queued" and now - sent.rung > RING_SECONDS:  # the broker may have lost the message
            self.check_worker()
            with contextlib.suppress(Unavailable):
                self._ring(sent.id)
            sent.rung = now
        if status == "running" and now - sent.looked > LOOK_SECONDS:
            self.store.lose_question_if_silent(sent.id)
            sent.looked = now

    def _ring_for(self, sent: Sent) -> None:
        try:
            self._ring(sent.id)
        except Unavailable as error:
            raise FtqError(f"{error.message}, so nobody can answer", error.hint or self._no_broker()) from None

    def _withdraw(self, sent: Sent) -> None:
        with contextlib.suppress(Unavailable):
            self.store.withdraw(sent.id)


def _who_is_to_blame(status: str) -> str:
    if status == "queued":
        return "The workers may be busy: `ftq status`. `ftq worker --queues ask` starts one for questions alone."
    return "A worker took the question: see its log."


def drain(pieces: Generator[str, None, Value], take: Callable[[str], Any] = lambda piece: None) -> Value:
    """Hand each piece to `take` and return the generator's value."""
    with contextlib.closing(pieces):
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                value: Value = end.value
                return value
            take(piece)


def check_prompt(prompt: str) -> None:
    """UserError if the prompt isn't text or is too long."""
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError:  # bytes of a command line that were no UTF-8
        size = 0
    if "\0" in prompt or not size:
        raise UserError("the question is no text", "It has to be UTF-8, and to have no NUL character.")
    if size > MAX_PROMPT:
        raise UserError(f"the question has {size:,} bytes, {MAX_PROMPT:,} are the most", "Ask about a part of it.")


def check_options(options: dict[str, Any]) -> None:
    """UserError for an unknown name, or a value beyond the limits of a run's own options."""
    for name in options:
        if name not in OPTIONS:
            near = did_you_mean(name, list(OPTIONS))
            raise UserError(f"unknown option {name} of a question.{near}", f"Known: {', '.join(OPTIONS)}")
    quant = options.get("quant")
    values = {name: value for name, value in options.items() if name not in ("quant", "base")}
    if quant is not None or values:
        from ftq.spec.options import parse  # pydantic: not for the list of runs

        parse({"model": "any", **values, **({} if quant is None else {"quantizations": [quant]})})


def check_model(run: Run, there: list[str], options: dict[str, Any], none: Refused) -> None:
    """Refused if the run has no model to ask, or not the quantisation that is asked for; it has those `there`.

    `none` is what to say where there are none.
    """
    asked = options.get("quant")
    if options.get("base"):
        if asked:
            raise UserError("the base model has no other quantisation than q8_0", "Leave out --quant, or --base.")
    elif not there:
        raise none
    elif asked and asked not in there:
        wanted = ",".join([*there, asked])
        raise Refused(
            f"run {run.name} has no {asked}, it has {', '.join(there)}",
            f"`ftq infer {run.name} --quant {there[0]}`, or submit it again with --set quantizations={wanted}: "
            "only the export is made anew.",
        )
