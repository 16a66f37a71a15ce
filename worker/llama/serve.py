"""`python -m worker.llama.serve`: llama.cpp's server in this process, or the one that FTQ_LLAMA_SERVER names.

A line of JSON on standard input says what to serve: {"model", "context", "slots", "threads", "socket", "key",
"idle_seconds", "gpu", "loras"}. The process ends when its standard input does, which is when its parent ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from worker.machine.leash import leashed

ERRORS = 1  # llama.cpp's verbosity
FLUSH_SECONDS = 0.3


def main() -> None:
    order = json.loads(_first_line())
    binary = os.environ.get("FTQ_LLAMA_SERVER")
    if binary:
        server = _start_binary(binary, order)
        threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
        _end_as(server.wait())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server = _start_packaged(order)
    signal.pause()  # the server works in threads of its own
    del server


def _end_as(code: int) -> None:
    """End as the server did, by the same signal: who started this process says what that means."""
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _first_line() -> bytes:
    """Read a line unbuffered: a thread that waits in a buffered reader makes the interpreter abort at its end."""
    line = b""
    while not line.endswith(b"\n") and (read := os.read(0, 65536)):
        line += read
    return line


def _end_with_parent(server: subprocess.Popen[bytes] | None = None) -> None:
    while os.read(0, 64):
        pass
    if server:
        server.kill()
    os._exit(0)


def _start_packaged(order: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = order["model"]
    params.n_ctx, params.n_parallel, params.kv_unified = order["context"], order["slots"], True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["threads"]
    params.hostnames, params.api_keys = [order["socket"]], [order["key"]]
    params.sleep_idle_seconds, params.warmup, params.ui = order["idle_seconds"], False, False
    params.cache_ram_mib = 0  # a cache of prompts would give what one adapter has computed to another
    params.verbosity, params.use_jinja = ERRORS, True
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(lora, 1.0) for lora in order["loras"]]
    if not order["gpu"]:  # with one, llama.cpp puts as many layers there as fit into its free memory
        params.n_gpu_layers, params.fit_params = 0, False
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        time.sleep(FLUSH_SECONDS)  # llama.cpp's log, written by a thread of its own, says what is wrong
        sys.exit(f"llama.cpp can't serve {order['model']}: {error}")


def _start_binary(binary: str, order: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = [
        binary,
        "--model",
        order["model"],
        "--ctx-size",
        str(order["context"]),
        "--parallel",
        str(order["slots"]),
        "--kv-unified",
        "--threads",
        str(order["threads"]),
        "--host",
        order["socket"],
        "--no-webui",
        "--no-warmup",
        "--jinja",
        "--sleep-idle-seconds",
        str(order["idle_seconds"]),
        "--log-verbosity",
        str(ERRORS),
    ]
    command += [] if order["gpu"] else ["--n-gpu-layers", "0"]
    for lora in order["loras"]:
        command += ["--lora", lora]
    environment = os.environ | {"LLAMA_API_KEY": order["key"]}  # everybody can read a command line in /proc
    return subprocess.Popen(
        leashed(command),
        stdin=subprocess.DEVNULL,
        env=environment,
    )


if __name__ == "__main__":
    main()
