"""A bounded set of warm llama.cpp servers: started on demand, the least recently used stopped first.

An unused server gives its memory back after a while and loads the file again at the next question.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ftq.errors import Lost, OutOfMemory, UserError
from worker.llama.answer import Answer, Question
from worker.llama.server import SLOTS, Server
from worker.machine import hardware

CONTEXT = 4096  # tokens that a server's questions share, unless one needs more
FIXED_BYTES = 256 * 2**20  # what a server needs beside the weights and the cache of keys and values
# Of the file's size: an upper bound on the cache of CONTEXT tokens, for every model of the catalogue.
CACHE_SHARE = 0.75


@dataclass(frozen=True)
class _Model:
    """What a server is started for: a file, the adapters that lie over it, and how many questions it answers at once.

    `files` are the file and the adapters.
    """

    files: tuple[Path, ...]
    slots: int


@dataclass
class _Entry:
    """A place for one file's server. The thread that starts the server holds `starting`; the waiting ones are users."""

    starting: threading.Lock = field(default_factory=threading.Lock)
    server: Server | None = None
    bytes: int = 0  # what the server may need
    users: int = 0
    asking: int = 0  # users that have the server
    last_used: int = 0


class Pool:
    """Answers questions by GGUF files. Thread-safe; one for each process, and gone with it.

    At most `most` servers run at once, each with room for `context` tokens unless a question needs more. An unused
    server keeps its model loaded for `idle_seconds`. With `gpu` (default: if this process sees one) llama.cpp puts as
    many layers on the GPU as fit into its free memory, if the wheel or FTQ_LLAMA_SERVER can use it.

    A server answers `slots` questions at once. They share its cache of keys and values: which lie beside which, and so
    the last bits of every sum, hangs on when each came, and a greedy answer may become another one. With one slot an
    answer depends on file and question alone. That is what a question with a seed asks for, so it goes to a server of
    one slot, beside the one that others share.

    A `patient` pool that is short of memory waits until one of its busy servers is idle, instead of failing: whoever
    asks must not hold another server of it. `memory` limits the bytes of all its servers together; 0 is no limit.
    """

    def __init__(
        self,
        most: int = 2,
        idle_seconds: float = 300.0,
        gpu: bool | None = None,
        context: int = CONTEXT,
        *,
        slots: int = SLOTS,
        patient: bool = False,
        memory: int = 0,
    ) -> None:
        self.most, self.idle_seconds, self.context, self.slots = most, idle_seconds, context, slots
        self.patient, self.memory = patient, memory
        self.gpu = bool(hardware.own_gpus()) if gpu is None else gpu
        self._entries: dict[_Model, _Entry] = {}
        self._changed = threading.Condition()
        self._clock = 0
        self._closed = False

    def stream(
        self, file: Path, question: Question, stopped: Callable[[], bool] = lambda: False
    ) -> Generator[str, None, Answer]:
        """Yield the answer's text as it is written; the generator returns an Answer.

        `stopped` is called often; true ends the answer. UserError for a question that is longer than the model reads,
        FtqError with llama.cpp's last lines when it crashes.
        """
        slots = self.slots if question.seed is None else 1
        with self.server(file, slots=slots) as server:
            ids = server.prompt_ids(question)
            if len(ids) >= server.trained_context:
                raise UserError(
                    f"the question has {len(ids):,} tokens, the model reads at most {server.trained_context:,}",
                    "Ask a shorter one.",
                )
            needed = min(len(ids) + question.max_tokens, server.trained_context)
            if needed <= server.context:
                return (yield from server.stream(question, ids, stopped))
        with self.server(file, needed, slots=slots) as server:
            return (yield from server.stream(question, ids, stopped))

    def ask(self, file: Path, question: Question) -> Answer:
        """The whole answer."""
        writing = self.stream(file, question)
        while True:
            try:
                next(writing)
            except StopIteration as end:
                answer: Answer = end.value
                return answer

    def ask_all(self, file: Path, questions: list[Question]) -> Iterator[Answer]:
        """The answers in the questions' order, as many written at once as a server has slots."""
        threads = ThreadPoolExecutor(self.slots)
        try:
            yield from threads.map(lambda question: self.ask(file, question), questions)
        finally:
            threads.shutdown(cancel_futures=True)

    @contextmanager
    def server(
        self, file: Path, context: int = 0, loras: Sequence[Path] = (), *, slots: int | None = None
    ) -> Iterator[Server]:
        """The file's server with room for `context` tokens, started if need be. It stays while the block runs.

        `loras` are adapters as GGUFs of their own; the file with them is another model than the file alone. Without
        `slots` it has as many as the pool's servers.
        """
        model = _Model(tuple(one.resolve() for one in (file, *loras)), slots or self.slots)
        entry = self._enter(model)
        try:
            with entry.starting:
                if entry.server is None or not entry.server.alive or entry.server.context < context:
                    self._start(model, entry, context)
                server = entry.server
                assert server
                self._count(entry, asking=1)
            try:
                yield server
            finally:
                self._count(entry, asking=-1)
        finally:
            self._count(entry, users=-1)

    def close(self) -> None:
        """End all servers, and let whoever waits for one go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            for entry in self._entries.values():
                if entry.server:
                    entry.server.close()
            self._entries.clear()

    # ---- inside -----------------------------------------------------------------------------------------

    def _enter(self, model: _Model) -> _Entry:
        """The model's place with the caller as a user: the place is kept until the caller counts itself out."""
        with self._changed:
            while model not in self._entries and len(self._entries) >= self.most and not self._stop_oldest():
                self._wait()  # all are busy answering
            entry = self._entries.setdefault(model, _Entry())
            self._count(entry, users=1)
            return entry

    def _count(self, entry: _Entry, *, users: int = 0, asking: int = 0) -> None:
        with self._changed:
            entry.users += users
            entry.asking += asking
            self._clock += 1
            entry.last_used = self._clock
            self._changed.notify_all()

    def _wait(self) -> None:
        """Wait until something has changed. Lost if the pool was closed. The caller holds `_changed`."""
        self._changed.wait()
        if self._closed:
            raise Lost("llama.cpp's servers are being stopped", "Ask again when the process runs again.")

    def _start(self, model: _Model, entry: _Entry, context: int) -> None:
        """Start the place's server; one that is too small ends first, once its running answers are complete."""
        if entry.server:
            with self._changed:
                while entry.asking and entry.server.alive:
                    self._wait()
            entry.server.close()
            entry.server, entry.bytes = None, 0
        file, *loras = model.files
        if missing := next((one for one in model.files if not one.is_file()), None):
            raise UserError(f"{missing} isn't there", "`ftq status RUN` shows what the run has made.")
        rounded = max(self.context, _power_of_two(context))  # few sizes: the next question rarely needs a larger one
        self._make_room(model, entry, rounded)
        try:
            entry.server = Server(
                file, rounded, idle_seconds=self.idle_seconds, gpu=self.gpu, loras=loras, slots=model.slots
            )
        except BaseException:
            entry.bytes = 0
            raise

    def _make_room(self, model: _Model, entry: _Entry, context: int) -> None:
        """Stop idle servers until the memory suffices. Lost if it doesn't now, OutOfMemory if it never will."""
        if self.gpu:
            return  # llama.cpp itself takes the memory that is free there, and computes the rest on the CPU
        name = model.files[0].name
        size = sum(one.stat().st_size for one in model.files)
        needed = int(size * (1 + CACHE_SHARE * context / CONTEXT)) + FIXED_BYTES
        total = hardware.machine_memory()
        if needed > min(total, self.memory or total):
            has = f"the limit is {self.memory / 2**30:.1f}" if self.memory else f"this machine has {total / 2**30:.1f}"
            raise OutOfMemory(
                f"asking {name} needs about {needed / 2**30:.1f} GiB, {has}",
                "Take a smaller quantisation, or ask a shorter question.",
            )
        with self._changed:
            while needed > (free := self._free_memory()):
                if self._stop_oldest():
                    continue
                if not (self.patient and self._others_work(entry)):
                    raise Lost(
                        f"asking {name} needs about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free now",
                        "Ask again when other processes have ended.",
                    )
                self._wait()
            entry.bytes = needed

    def _others_work(self, entry: _Entry) -> bool:
        """Whether another server of the pool starts or answers, which will be idle some time."""
        return any(other.asking or other.bytes for other in self._entries.values() if other is not entry)

    def _free_memory(self) -> int:
        """What a new server may take, of the machine's memory and of the limit. The caller holds `_changed`."""
        free = hardware.free_memory()
        used = sum(entry.bytes for entry in self._entries.values())
        return min(free, self.memory - used) if self.memory else free

    def _stop_oldest(self) -> bool:
        """Stop the server that has been unused longest; False if there is none. The caller holds `_changed`."""
        idle = [model for model, entry in self._entries.items() if entry.users == 0]
        if not idle:
            return False
        oldest = min(idle, key=lambda model: self._entries[model].last_used)
        entry = self._entries.pop(oldest)
        if entry.server:
            entry.server.close()
        return True


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length() if number else 0
