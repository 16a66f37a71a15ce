"""Whether llama.cpp works on this machine: it loads the packaged model and answers."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ftq.doctor.findings import Finding
from ftq.errors import FtqError
from worker.llama.answer import Question
from worker.llama.packaged import packaged_gguf
from worker.llama.pool import Pool

FIX = "make install   (or let FTQ_LLAMA_SERVER name a llama-server)"
QUESTION = Question("What is the capital of France?", max_tokens=4, chat=True)


def look() -> Iterator[Finding]:
    """One finding, after about a second."""
    file = packaged_gguf()
    if file is None:
        yield Finding("llama.cpp", "note", "not tried: the packaged model isn't installed", "make install")
        return
    began, pool = time.monotonic(), Pool(most=1, gpu=False, context=256)
    try:
        answer = pool.ask(file, QUESTION)
    except FtqError as error:
        yield Finding("llama.cpp", "problem", error.message, FIX)
        return
    finally:
        pool.close()
    took = time.monotonic() - began
    if answer.tokens:
        yield Finding("llama.cpp", "ok", "loads the packaged model and answers", seconds=took)
    else:
        yield Finding("llama.cpp", "problem", "loads the packaged model and writes nothing", "make install")
