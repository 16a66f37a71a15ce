"""Training steps as CUDA graphs: where a step is small, the host starts kernels more slowly than the GPU runs them.

Forward and backward pass of a step are some thousand kernels; recorded once, they are started as one. A recording holds
for one number of tokens, at one place in memory. So a step's tokens are copied there, and an example from which nothing
is learned fills the place up: the other examples don't see it. Every recording is compared with a step that was
computed as usual before it is used; where it can't be made, differs or is no faster, steps go on as usual.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from ftq.errors import first_line
from worker.stages.engine.device import limit
from worker.stages.model.tokens import IGNORED

USES = 3  # times that a size is met before it is recorded
PAYING = 12  # steps of its size still to come: a recording costs about six steps, and one by it takes half as long
SIZES = 8  # between a number of tokens and its double
SMALLEST = 128  # tokens between two sizes at least
FASTER = 1.1  # than a usual step, or nothing is recorded
MORE = 2.2  # times a usual step's activations that steps and recordings need together
NEAR = 0.1  # relative difference to a usual step's gradient that rounding may make
GIVEN = {"input_ids", "labels", "position_ids", "packed_seq_lengths"}  # what a batch end to end consists of


def size_for(tokens: int) -> int:
    """The size of the place for so many tokens and at least one more."""
    step = max(SMALLEST, (1 << (tokens.bit_length() - 1)) // SIZES)
    return (tokens // step + 1) * step


class Place:
    """Where a batch of `examples` examples, end to end, lies while it is computed: (1, size) tokens."""

    def __init__(self, size: int, examples: int, longest: int, device: Any) -> None:
        self.size = size
        # The longest that there can be, what fills the place up counted in: the kernels' grids are made for it.
        first = min(max(longest, SMALLEST, size // 4), size - examples)
        lengths = [first, *[1] * (examples - 1), size - first - examples + 1]
        self.lengths = torch.tensor(lengths, dtype=torch.int32, device=device)
        self.ends = torch.zeros(examples + 2, dtype=torch.int32, device=device)  # where each begins, and the end
        self.ids, self.labels, self.positions = (
            torch.zeros(1, size, dtype=torch.int64, device=device) for _ in range(3)
        )
        self.positions.copy_(torch.cat([torch.arange(length, device=device) for length in lengths]))
        self.ends[1:] = self.lengths.cumsum(0)
        self.count = torch.full((), size, device=device)  # of labels

    @property
    def inputs(self) -> dict[str, Any]:
        """The model's inputs. The mask says what `packed_seq_lengths` says: it is compared with them, not computed."""
        number = torch.repeat_interleave(
            torch.arange(len(self.lengths), device=self.ids.device), self.lengths, output_size=self.size
        )
        mask = (number[:, None] == number[None, :]).tril()
        return {
            "input_ids": self.ids,
            "labels": self.labels,
            "position_ids": self.positions,
            "packed_seq_lengths": self.lengths,
            "attention_mask": mask[None, None],
        }

    def fill(self, inputs: dict[str, Any], count: Any) -> None:
        """Put a batch here, and behind it an example that teaches nothing."""
        tokens = inputs["input_ids"].shape[1]
        for place, name, rest in (
            (self.ids, "input_ids", 0),
            (self.labels, "labels", IGNORED),
            (self.positions, "position_ids", torch.arange(self.size - tokens, device=self.ids.device)),
        ):
            place[:, :tokens].copy_(inputs[name], non_blocking=True)
            place[:, tokens:] = rest
        self.lengths[:-1].copy_(inputs["packed_seq_lengths"], non_blocking=True)
        self.lengths[-1] = self.size - tokens
        torch.cumsum(self.lengths, 0, dtype=torch.int32, out=self.ends[1:])
        self.count.copy_(torch.as_tensor(count))


class Recorder:
    """Computes a trainer's steps: as usual, and by a recording where there is one for their size."""

    def __init__(self, trainer: Any, examples: int, longest: int) -> None:
        self.trainer, self.examples, self.longest = trainer, examples, longest
        self.is_on, self.played = True, 0
        self._met: Counter[int] = Counter()
        self._recordings: dict[int, Recording] = {}
        self._gradients: dict[Any, torch.Tensor] = {}  # of all recordings: each of them begins by clearing them
        self._memory: Any = None  # likewise what they compute with

    def step(self, model: Any, inputs: dict[str, Any], count: Any, usual: Callable[[], Any]) -> Any:
        """A step's loss; its gradients are the parameters' afterwards. `count` is how many labels it has."""
        if not self.is_on or set(inputs) != GIVEN or len(inputs["packed_seq_lengths"]) != self.examples:
            return usual()
        size = size_for(inputs["input_ids"].shape[1])
        self._met[size] += 1
        recording = self._recordings.get(size)
        if recording and recording.is_right:
            self.played += 1
            return recording.play(inputs, count)
        if not recording and not self._pays(size):
            return usual()
        loss, seconds = _timed(usual)
        learned = {one: one.grad for one in model.parameters() if one.grad is not None}
        try:
            if recording:
                self._compare(recording, inputs, count, loss, seconds, learned)
            else:
                self._record(model, size, learned, loss.device)
        except Exception as problem:  # a library's newer version may do what can't be recorded
            traceback.print_exc()
            self._stop(f"a step can't be recorded: {first_line(problem)[:200]}")
        _take(learned)
        return loss

    def _pays(self, size: int) -> bool:
        state, share = self.trainer.state, self._met[size] / self._met.total()
        return self._met[size] >= USES and share * (state.max_steps - state.global_step) >= PAYING

    def _record(self, model: Any, size: int, learned: dict[Any, torch.Tensor], device: Any) -> None:
        if not self._recordings:
            if not _is_room():
                return self._stop("there is no memory for a recording beside a usual step")
            self._gradients = {one: torch.zeros_like(one) for one in learned}
            self._memory = torch.cuda.graph_pool_handle()
        place = Place(size, self.examples, self.longest, device)
        with _frequencies_known(model, self.longest):
            self._recordings[size] = Recording(self.trainer, model, place, self._gradients, self._memory)

    def _compare(
        self,
        recording: Recording,
        inputs: dict[str, Any],
        count: Any,
        loss: torch.Tensor,
        seconds: float,
        learned: dict[Any, torch.Tensor],
    ) -> None:
        """Trust it if it computes what the step has computed, now that others came in between, and faster."""
        played, shorter = _timed(partial(recording.play, inputs, count))
        off = max(float((played - loss).abs() / loss.abs()), _difference(self._gradients, learned))
        if not off <= NEAR:
            return self._stop(f"a recorded step differs by {off:.0%}")
        tokens, faster = recording.place.size, seconds / shorter
        if faster < FASTER and not any(one.is_right for one in self._recordings.values()):
            return self._stop(f"a recorded step is {faster:.2f} times as fast")
        print(f"Steps of up to {tokens:,} tokens are played as recorded: {faster:.2f} times as fast", flush=True)
        recording.is_right = True

    def _stop(self, why: str) -> None:
        print(f"Steps aren't recorded: {why}", flush=True)
        self.is_on, self._memory = False, None
        self._recordings.clear()
        self._gradients = {}
        torch.cuda.empty_cache()


class Recording:
    """The forward and backward pass of a batch at `place`."""

    def __init__(self, trainer: Any, model: Any, place: Place, gradients: dict[Any, torch.Tensor], memory: Any) -> None:
        from unsloth.utils.packing import get_packed_info_from_kwargs  # type: ignore[import-untyped]

        self.place, self.gradients, self.graph = place, gradients, torch.cuda.CUDAGraph()
        self.is_right = False
        inputs = place.inputs

        def compute() -> torch.Tensor:
            torch._foreach_zero_(list(gradients.values()))
            with trainer.compute_loss_context_manager():
                loss: torch.Tensor = trainer.compute_loss(model, dict(inputs), num_items_in_batch=place.count)
            loss.backward()
            return loss.detach()

        _take(gradients)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            compute()  # what is looked up or chosen at a first time would stop the recording
        torch.cuda.current_stream().wait_stream(stream)
        # Unsloth reads the lengths once a batch, and keeps what it made of them: the attention's kernels read it there.
        place.ends = get_packed_info_from_kwargs({"packed_seq_lengths": place.lengths}, place.lengths.device)[1]
        with torch.cuda.stream(stream):  # not by torch.cuda.graph, which would give all cached memory back each time
            self.graph.capture_begin(pool=memory, capture_error_mode="thread_local")
            try:
                self.loss = compute()
            finally:
                self.graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)

    def play(self, inputs: dict[str, Any], count: Any) -> torch.Tensor:
        self.place.fill(inputs, count)
        _take(self.gradients)
        self.graph.replay()
        return self.loss.clone()


def _take(gradients: dict[Any, torch.Tensor]) -> None:
    for parameter, gradient in gradients.items():
        parameter.grad = gradient


def _timed(compute: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """(What it computes, seconds until the GPU has done it.)"""
    torch.cuda.synchronize()
    began = time.monotonic()
    computed = compute()
    torch.cuda.synchronize()
    return computed, time.monotonic() - began


def _difference(gradients: dict[Any, torch.Tensor], learned: dict[Any, torch.Tensor]) -> float:
    """How far gradients are from those that were learned, relative to them."""
    apart = [(gradients[one] - gradient).norm() for one, gradient in learned.items()]
    return float(torch.stack(apart).norm() / torch.stack([gradient.norm() for gradient in learned.values()]).norm())


def _is_room() -> bool:
    """Whether a recording's activations find room beside those of a usual step."""
    allocated = torch.cuda.memory_allocated()
    usable = min(limit(), torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())
    return MORE * (torch.cuda.max_memory_allocated() - allocated) <= usable - allocated


@contextmanager
def _frequencies_known(model: Any, longest: int) -> Iterator[None]:
    """Let rotary embeddings keep their frequencies, which some choose by the longest position: the host would wait.

    RuntimeError for a model whose frequencies change with the length of what it reads.
    """
    choosing = [part for part in model.modules() if getattr(part, "rope_type", "default") != "default"]
    changing = []
    for part in choosing:
        kinds = part.rope_type.values() if isinstance(part.rope_type, dict) else [part.rope_type]
        if any("dynamic" in kind for kind in kinds):
            raise RuntimeError("the frequencies of its positions depend on the length")
        if "longrope" in kinds:
            if isinstance(part.rope_type, dict):
                raise RuntimeError("it has several kinds of positions")
            if longest > part.config.rope_parameters["original_max_position_embeddings"]:
                raise RuntimeError("the frequencies of its positions depend on the length")
            changing.append(part)
    for part in changing:
        part.rope_type = "default"
    try:
        yield
    finally:
        for part in changing:
            part.rope_type = "longrope"
