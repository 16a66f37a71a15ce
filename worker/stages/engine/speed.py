"""How fast the device makes its steps, and what a training takes beside them."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, NamedTuple

SPEED_STEPS = 20  # tokens per second and time left are measured over the last so many steps
STARTING_STEPS = 2  # that wait for kernels: left out of the speed


class Moment:
    """The time at which the device reaches this point: up to a step later than the host."""

    def __init__(self) -> None:
        import torch

        self.time, self.event = time.monotonic(), None
        if torch.cuda.is_available():
            self.event = torch.cuda.Event(enable_timing=True)
            self.event.record()

    @property
    def is_past(self) -> bool:
        return self.event is None or bool(self.event.query())

    def until(self, later: Moment) -> float:
        """Seconds between two moments that are past."""
        if self.event is None or later.event is None:
            return later.time - self.time
        return float(self.event.elapsed_time(later.event)) / 1000


class Step(NamedTuple):
    """A step whose speed counts. The tokens before and after it stay tensors: reading them would wait for the GPU."""

    begin: Moment
    tokens_before: Any
    end: Moment
    tokens_after: Any

    @property
    def seconds(self) -> float:
        return self.begin.until(self.end)

    @property
    def tokens(self) -> Any:
        return self.tokens_after - self.tokens_before


class Speed:
    """The speed of the steps of an attempt, each GPU's tokens times `gpus`."""

    def __init__(self, gpus: int) -> None:
        self._gpus, self._number = gpus, 0
        self._starting: list[Step] = []
        self.last: deque[Step] = deque()
        self._before = 0, 0.0, 0  # of all steps before the last ones: how many, seconds, tokens
        self._saving = 0.0

    def add(self, step: Step) -> bool:
        """Count a step; whether it was the last of those that wait for kernels."""
        self._number += 1
        if self._number <= STARTING_STEPS:
            self._starting.append(step)
            return self._number == STARTING_STEPS
        if len(self.last) == SPEED_STEPS and self.last[0].end.is_past:
            count, seconds, tokens = self._before
            old = self.last.popleft()
            self._before = count + 1, seconds + old.seconds, tokens + old.tokens
        self.last.append(step)
        return False

    def saved(self, seconds: float) -> None:
        """Note how long a checkpoint took."""
        self._saving = seconds

    def now(self) -> tuple[float | None, float | None]:
        """(tokens a second, seconds a step) of the last steps; None until a step was run without compiling."""
        return self._rate(0, 0.0, 0)

    def measured(self) -> dict[str, float | None]:
        """The same of all steps; and what the attempt took beside them, in its first steps and for a checkpoint."""
        rate, seconds = self._rate(*self._before)
        starting = None
        if rate and len(self._starting) == STARTING_STEPS:
            tokens = int(sum(step.tokens for step in self._starting)) * self._gpus
            starting = max(0.0, sum(step.seconds for step in self._starting) - tokens / rate) + self._saving
        return {"step_seconds": seconds, "tokens_per_second": rate, "starting": starting and round(starting, 2)}

    def _rate(self, count: int, seconds: float, tokens: Any) -> tuple[float | None, float | None]:
        done = [step for step in self.last if step.end.is_past]
        count += len(done)
        if not count:
            return None, None
        tokens = int(tokens + sum(step.tokens for step in done)) * self._gpus
        seconds += sum(step.seconds for step in done)
        return round(tokens / seconds, 1), seconds / count
