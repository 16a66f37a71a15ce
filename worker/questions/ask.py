"""Who can be asked to write: the run's own base model in llama.cpp, or an endpoint (endpoint.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ftq.errors import FtqError, UserError
from worker.llama.answer import Question
from worker.llama.pool import Pool
from worker.llama.server import SLOTS
from worker.questions.schema import Request, grammar

CONTEXT = 8192  # tokens: a few sections at once
SMALL = 450_000_000  # bytes of a q8_0 file; a model under half a billion parameters writes hardly a usable question


class Asker(Protocol):
    """Answers requests, from as many threads as `at_once` says. `name` tells whose answers they are."""

    name: str
    at_once: int

    def ask(self, request: Request) -> str:
        """What the model writes, empty if it writes nothing. An error means that no further request can do better."""

    def close(self) -> None: ...


class BaseModel:
    """A base model's GGUF through its own chat template; the grammar lets it write nothing but the JSON asked for."""

    at_once = SLOTS

    def __init__(self, gguf: Path, pool: Pool | None = None) -> None:
        self.name, self._gguf = gguf.name, gguf
        self._pool = pool or Pool(most=1, context=CONTEXT)

    @property
    def is_small(self) -> bool:
        return self._gguf.stat().st_size < SMALL

    def ask(self, request: Request) -> str:
        """A section that is too long for the model gives nothing. llama.cpp may die once: it is started anew."""
        question = Question(request.prompt, max_tokens=request.most_tokens, chat=True, grammar=grammar(request.schema))
        try:
            return self._pool.ask(self._gguf, question).answer
        except UserError:
            if not self._gguf.is_file():
                raise
            return ""
        except FtqError:
            return self._pool.ask(self._gguf, question).answer

    def close(self) -> None:
        self._pool.close()
