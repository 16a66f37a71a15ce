"""The standby: a process that has imported what training needs and waits for the run that it will train.

It serves one stage and ends, so every stage still has a fresh process. Until then it holds half a gigabyte of memory,
and on a GPU another half for the CUDA context that `import unsloth` makes. So only a worker that trains has one, as it
has its GPU to itself; and the standby is started while that worker trains nothing.

An order is one message on its socket: JSON {"module", "arguments"} with two file descriptors, the run's log and the
lock that a stage's process holds. Its report pipe and heartbeat are there from its start, as in any stage's process.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import runpy
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from worker.stages.model import base_model
from worker.stages.process.quiet import quiet

ORDER_BYTES = 65536  # an order is a path and a few options
HUB_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def preload() -> None:
    """Import what the train stage imports, in its order and under the same environment."""
    with _offline():
        if find_spec("unsloth"):
            import unsloth  # type: ignore[import-untyped]  # noqa: F401  it comes first and patches the others
        import datasets  # type: ignore[import-untyped]  # noqa: F401
        import peft  # noqa: F401
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: F401
        from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]  # noqa: F401

        _know_names()
        if torch.cuda.is_available():
            _warm_up()
    gc.collect()
    gc.freeze()  # loading a model collects garbage some twenty times, each time looking at everything imported


def _know_names() -> None:
    """Have transformers make its table of how weights are called: some hundred regular expressions, a fifth second."""
    with contextlib.suppress(ImportError, AttributeError):  # another transformers may have none
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping

        get_checkpoint_conversion_mapping("llama")


def _warm_up() -> None:
    """Do what else happens only when a model is loaded and its first step is compiled for the GPU."""
    import torch
    from transformers import LlamaConfig, Phi3ForCausalLM  # noqa: F401  of the catalogue only Phi-3 isn't Unsloth's own

    with contextlib.suppress(ImportError, AttributeError):  # another Unsloth may have no use for them
        import unsloth.kernels.large_head_attention  # type: ignore[import-untyped]  # noqa: F401
        from unsloth_zoo import compiler, hf_utils  # type: ignore[import-untyped]

        hf_utils.get_transformers_model_type(LlamaConfig())  # it remembers the names of all models, in a quarter second
        compiler.importlib_version = functools.cache(compiler.importlib_version)  # of four packages, for each function
    compile_something("cuda")
    some = torch.ones(64, 64, device="cuda", dtype=torch.float16)
    (some @ some).sum().item()  # loads the libraries for matrix products


def compile_something(device: str) -> None:
    import torch

    start = torch.ones(64, device=device, requires_grad=True)
    torch.compile(lambda x: (x * 2 + 1).sum())(start).backward()


def wake_compilers() -> None:
    """Have the processes that compile kernels started again: after a minute of waiting PyTorch ends them."""
    compilers = sys.modules.get("torch._inductor.async_compile")
    with contextlib.suppress(AttributeError, RuntimeError):  # PyTorch's private names
        if compilers:
            compilers.AsyncCompile.wakeup()


def main(preload: Callable[[], None] = preload) -> None:
    """Run `python -m worker.stages.process.standby FD`: FD is the socket on which the order comes."""
    orders, began = socket.socket(fileno=int(sys.argv[1])), time.monotonic()
    quiet()
    with _ends_with_its_supervisor():
        loaded = _succeeds(preload)
        seconds = time.monotonic() - began
        if loaded:
            with contextlib.suppress(BrokenPipeError):
                orders.sendall(b"ready")
        module, arguments = _wait(orders)
    sys.argv = [module, *arguments]
    if not loaded:  # replace this process by the one that would have been started without a standby
        print("standby: its imports failed (the worker's logs/standby.log says why), starts again", flush=True)
        os.execv(sys.executable, [sys.executable, "-m", *sys.argv])
    print(f"standby: had imported everything in {seconds:.1f} s before this run came", flush=True)
    wake_compilers()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep imports off the hub, as in the train stage; afterwards a base model may still have to be downloaded."""
    import huggingface_hub.constants as hub

    switches, was = {name: os.environ.get(name) for name in HUB_SWITCHES}, hub.HF_HUB_OFFLINE
    base_model.go_offline()
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = was
        for name, value in switches.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _ends_with_its_supervisor() -> Iterator[None]:
    """End this process, even during an import, when the heartbeat's pipe closes. Its bytes are left to the stage."""
    pipe, done = select.poll(), threading.Event()
    pipe.register(0, 0)  # no event but POLLHUP, which always comes

    def watch() -> None:
        while not done.is_set():
            if pipe.poll(1000):
                os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    yield
    done.set()


def _succeeds(preload: Callable[[], None]) -> bool:
    try:
        preload()
    except Exception:  # Unsloth checks the machine when it is imported and raises errors of many kinds
        traceback.print_exc()
        return False
    return True


def _wait(orders: socket.socket) -> tuple[str, list[str]]:
    """Wait for the order: (module, arguments). Afterwards output goes to the run's log and the lock is held."""
    message, descriptors, _, _ = socket.recv_fds(orders, ORDER_BYTES, 2)
    if not message:
        sys.exit()  # the supervisor is gone, or has no use for this process any more
    orders.close()
    log, lock = descriptors
    os.set_inheritable(lock, True)
    sys.stdout.flush()
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    order = json.loads(message)
    return order["module"], order["arguments"]


if __name__ == "__main__":
    main()
