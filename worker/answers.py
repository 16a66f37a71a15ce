"""Answers to questions: take a question, open the run's model, show the asker the text while llama.cpp writes it.

A question never waits for a stage: it needs no lease and no lock, and the models stay loaded for the next one.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from ftq.client.asking import drain
from ftq.client.follow import patiently
from ftq.errors import FtqError, RunError, Unavailable, UserError
from ftq.examples.report import base_revision
from ftq.files.remote import record
from ftq.files.remote.bucket import Gone
from ftq.files.remote.share import Share, share_of
from ftq.files.run_dir import REPORT, RunDir, run_dir
from ftq.settings import Settings
from ftq.spec.options import parse
from ftq.store.records import Run
from ftq.store.store import RunStore
from ftq.trace import spans
from worker import sigterm
from worker.llama.answer import Question
from worker.llama.base import base_gguf
from worker.llama.pool import Pool

log = logging.getLogger("ftq.answers")
logging.getLogger("httpx").setLevel(logging.WARNING)  # each request to llama.cpp would be a line
WRITE_SECONDS = 0.2  # between two writes of the text so far
LOOK_SECONDS = 0.5  # between two looks whether the asker still waits and the worker goes on


def open_pool(gpu: bool) -> Pool:
    """The pool of this process's models; tests replace it by one that loads none.

    Of one model there may be two servers. Where the memory is too short for both, who comes later waits.
    """
    return Pool(gpu=gpu, patient=True)


class Answerer:
    """Answers the questions of one process, several at once if it has threads. The first question opens a model."""

    def __init__(self, settings: Settings, open_store: Callable[[], RunStore], gpu: Callable[[], bool]) -> None:
        self.settings, self._open_store, self._gpu = settings, open_store, gpu
        self._lock, self._base_lock = threading.Lock(), threading.Lock()
        self._bases: dict[tuple[str, str | None], Path] = {}

    def answer(self, question: str, worker: str) -> None:
        """Take the question, unless another process has it, and write its answer or its error."""
        store = self._open_store()
        order = store.take_question(question, worker)
        if order is None:
            return
        asker, began = _Asker(store, question, worker), spans.now()
        try:
            with sigterm.noted(asker.stop):  # Flower's Terminate reaches a pool child by it
                answer, error = self._ask(asker, *order), None
        except FtqError as failure:
            answer, error = None, RunError.of(failure)
        except Exception as failure:  # the asker waits for an answer: record the error now
            log.exception("answer.%s", question)
            message, hint = f"{type(failure).__name__}: {failure}", "The worker's log has the details."
            answer, error = None, RunError("bug", message, hint)
        _note(run_dir(self.settings.home, order[0]), question, answer, error)
        patiently(lambda: store.answer(question, answer, error), self.settings.lease_seconds)
        spans.record(order[0], "ask", began, error.message if error else "", worker=worker)

    def close(self, **_: Any) -> None:
        """End the models' processes."""
        with self._lock:
            if "_pool" in self.__dict__:
                self.__dict__.pop("_pool").close()

    @cached_property
    def _pool(self) -> Pool:
        return open_pool(self._gpu())

    @cached_property
    def _share(self) -> Share | None:
        return share_of(self.settings, patient=False)  # a person waits for the answer

    def _ask(self, asker: _Asker, run_id: str, prompt: str, options: dict[str, Any]) -> dict[str, Any]:
        run = asker.store.get(run_id)
        options = dict(options)
        base = options.pop("base", False)
        if quant := options.pop("quant", None):
            options["quantizations"] = [quant]
        wanted = parse({**run.spec, **options})  # the options of a question have the limits of the run's own
        folder = run_dir(self.settings.home, run_id)
        file = None if base else folder.gguf(wanted.quantizations[0])
        if self._share:
            self._fetch(self._share, run, file)
        seed = wanted.seed if "seed" in options else None
        chat = base or wanted.format == "chat"
        question = Question(prompt, max_tokens=wanted.max_tokens, temperature=wanted.temperature, seed=seed, chat=chat)
        with record.in_use(folder.path) if self._share else contextlib.nullcontext():
            found = _model(folder, wanted.quantizations[0]) if file else self._base(run.model, folder)
            return self._write(asker, found, question)

    def _fetch(self, share: Share, run: Run, file: Path | None) -> None:
        """Have the model's file, or what names the commit of the base model, on this machine."""
        stage, name = ("export", file.name) if file else ("prepare", f"dataset/{REPORT}")
        if (there := run.stage(stage)).status == "succeeded":
            with contextlib.suppress(Gone):  # a run from before there was a bucket may be here
                share.fetch(run.id, stage, there.attempt, lambda path: path == name)

    def _write(self, asker: _Asker, file: Path, question: Question) -> dict[str, Any]:
        with self._lock:
            pool = self._pool
        answer = drain(pool.stream(file, question, asker.has_left), asker.show)
        asker.raise_if_stopped()
        return answer.to_json()

    def _base(self, model: str, folder: RunDir) -> Path:
        """The GGUF of the run's base model. One thread makes it while the others wait."""
        revision = base_revision(folder.dataset)
        with self._base_lock:
            file = self._bases.get((model, revision))
            if file is None or not file.is_file():
                file = self._bases[model, revision] = base_gguf(model, revision)
            return file


class _Asker:
    """The client that waits for one answer: it sees the text as it grows, and may leave before the end."""

    def __init__(self, store: RunStore, question: str, worker: str) -> None:
        self.store, self._question, self._worker = store, question, worker
        self._text = self._shown = ""
        self._written = self._looked = 0.0
        self._stopped = ""

    def show(self, piece: str) -> None:
        self._text += piece
        self._write_if_due()

    def stop(self) -> None:
        """End the answer because the worker was asked to stop."""
        self._stopped = "the worker was asked to stop before it had answered"

    def has_left(self) -> bool:
        """Whether the answer isn't needed any more. Called often, looked up twice a second."""
        self._write_if_due()
        if not self._stopped and time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._look()
        return bool(self._stopped)

    def raise_if_stopped(self) -> None:
        if self._stopped:
            raise FtqError(self._stopped, "Ask again when a worker is up.")

    def _look(self) -> None:
        with contextlib.suppress(Unavailable):  # the next look may reach the database again
            waits, draining = self.store.check_question(self._question, self._worker)
            if not waits:
                self._stopped = "nobody waits for the answer any more"
            elif draining:
                self.stop()

    def _write_if_due(self) -> None:
        """Write the text so far, stripped as the whole answer will be, so that each text begins like the next one."""
        text = self._text.strip()
        if len(text) > len(self._shown) and time.monotonic() - self._written > WRITE_SECONDS:
            self._written = time.monotonic()
            with contextlib.suppress(Unavailable):
                self.store.write_answer(self._question, text)
                self._shown = text


def _model(folder: RunDir, quantization: str) -> Path:
    """The run's GGUF, which is what the user ships, even if the run answers its test prompts by the adapter."""
    file = folder.gguf(quantization)
    if not file.is_file():
        models = ", ".join(path.name for path in folder.ggufs()) or "no model"
        raise UserError(f"{file} is not there; the run has {models}", "The export stage writes it: `ftq status`.")
    return file


def _note(folder: RunDir, question: str, answer: dict[str, Any] | None, error: RunError | None) -> None:
    """Add a line to the run's log of questions, without the question's text."""
    if answer:
        what = "{tokens} tokens in {seconds:.2f} s, the first after {first_token_seconds:.2f} s".format(**answer)
    else:
        what = f"no answer: {error.message if error else ''}"
    with contextlib.suppress(OSError), folder.log("ask").open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC answer.{question}: {what}\n")
