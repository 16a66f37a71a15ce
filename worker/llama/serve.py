"""`python -m worker.llama.serve`: llama.cpp's server in this process, or the one that FTQ_LLAMA_SERVER names.

A line of JSON on standard input says what to serve: {"model", "context", "slots", "threads", "socket", "key",
"idle_seconds", "gpu"}. The process ends when its standard input does, which is when its parent ends.
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

from worker.host.leash import leashed

ERRORS = 1  # llama.cpp's verbosity
FLUSH_SECONDS = 0.3


def main() -> None:
    wanted = json.loads(_first_line())
    binary = os.environ.get("FTQ_LLAMA_SERVER")
    if binary:
        server = _start_binary(binary, wanted)
        threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
        sys.exit(server.wait())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server = _start_packaged(wanted)
    signal.pause()  # the server works in threads of its own
    del server


def _first_line() -> bytes:
    """Read unbuffered: a thread that waits in a buffered reader would abort the interpreter's end."""
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


def _start_packaged(wanted: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = wanted["model"]
    params.n_ctx, params.n_parallel, params.kv_unified = wanted["context"], wanted["slots"], True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = wanted["threads"]
    params.hostnames, params.api_keys = [wanted["socket"]], [wanted["key"]]
    params.sleep_idle_seconds, params.warmup, params.ui = wanted["idle_seconds"], False, False
    params.cache_ram_mib, params.verbosity, params.use_jinja = 0, ERRORS, True
    if not wanted["gpu"]:  # else llama.cpp puts as many layers there as the free memory holds
        params.n_gpu_layers, params.fit_params = 0, False
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        time.sleep(FLUSH_SECONDS)  # llama.cpp writes its log from a thread of its own, and says there what is wrong
        sys.exit(f"llama.cpp can't serve {wanted['model']}: {error}")


def _start_binary(binary: str, wanted: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = [
        binary, "--model", wanted["model"], "--ctx-size", str(wanted["context"]), "--parallel", str(wanted["slots"]),
        "--kv-unified", "--threads", str(wanted["threads"]), "--host", wanted["socket"], "--no-webui", "--no-warmup",
        "--jinja", "--sleep-idle-seconds", str(wanted["idle_seconds"]), "--log-verbosity", str(ERRORS),
    ]  # fmt: skip
    command += [] if wanted["gpu"] else ["--n-gpu-layers", "0"]
    environment = os.environ | {"LLAMA_API_KEY": wanted["key"]}  # a command line shows in /proc to everybody
    return subprocess.Popen(
        leashed(command),
        stdin=subprocess.DEVNULL,
        env=environment,
    )


if __name__ == "__main__":
    main()
