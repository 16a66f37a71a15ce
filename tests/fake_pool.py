"""Models that take no time: the words of the question come back, one at a time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path

from ftq.errors import FtqError
from worker.llama.answer import Answer, Question


class FakePool:
    """A question that is `crash` gets an error, `slow` one word at once and no other, `kill` ends the worker."""

    def __init__(self, gpu: bool = False) -> None:
        self.gpu, self.closed = gpu, False
        self.asked: list[tuple[str, Question]] = []

    def stream(
        self, file: Path, question: Question, stopped: Callable[[], bool] = lambda: False
    ) -> Generator[str, None, Answer]:
        self.asked.append((file.name, question))
        if question.text == "crash":
            raise FtqError("llama.cpp ended with SIGSEGV", "Its last lines: ...")
        if question.text == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        words = ["slow"] if question.text.startswith("slow") else question.text.split(" ")[: question.max_tokens]
        for number, word in enumerate(words):
            yield f" {word}" if number else f"\n{word}"
        while question.text.startswith("slow") and not stopped():
            time.sleep(0.01)
        return Answer(question.text, " ".join(words), True, len(words), 0.25, 0.125)

    def close(self) -> None:
        self.closed = True
