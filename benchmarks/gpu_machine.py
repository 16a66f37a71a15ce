"""The whole of ftq on a GPU machine: `ftq up`, the real queue, the real 135M model, and what goes wrong there.

    python -m benchmarks.gpu_machine --log benchmarks/results/gpu-machine.log [--demo-cpus 0,1] [--llama-server PATH]

`ftq doctor --deep` begins first. Beside it two runs of documents/ go through `ftq up`: the first one's training is
killed by kill -9 and goes on from its checkpoint, the second trains while the first is exported, or the other way
round. Then both are asked. --demo-cpus runs `make demo` beside all that, on these processors and without the GPU;
--llama-server lets a llama-server with CUDA answer beside a training run. Each part has a time limit of its own, and
everything ends within 8.5 minutes. Whatever doesn't end as it should is counted in the exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.up import FTQ, up
from ftq.client.client import Client
from ftq.store.records import Run
from worker.llama.answer import Question
from worker.llama.pool import Pool

QUESTION = "Which command stops a run that I no longer want?"
TOTAL = 550.0  # seconds for all parts together; half a minute more is left to stop everything
# Seconds for each part.
READY, DEEP, RUNS, ASK, QUESTIONS, LLAMA, DEMO = 60.0, 220.0, 430.0, 60.0, 100.0, 110.0, TOTAL
FLOWER_PORT = "5565"  # the demo's `ftq up` takes the usual one


class Log:
    """Lines on the screen and in the file, each with the seconds since the start; `failed` counts what went wrong."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file, self.began, self.failed = path.open("w", encoding="utf-8"), time.monotonic(), 0
        self._one_by_one = threading.Lock()

    def say(self, text: str) -> None:
        with self._one_by_one:
            line = f"{time.monotonic() - self.began:7.1f} s  {text}"
            print(line, flush=True)
            self.file.write(line + "\n")
            self.file.flush()

    def check(self, what: str, good: bool, detail: str = "") -> None:
        self.failed += not good
        self.say(f"{'ok    ' if good else 'FAILED'} {what}{f': {detail}' if detail else ''}")

    def until(self, seconds: float) -> float:
        """When a part that begins now has to end, of time.monotonic()."""
        return min(time.monotonic() + seconds, self.began + TOTAL)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What goes wrong in the block is a line here, and the parts after it go on."""
        try:
            yield
        except Exception as error:
            self.check(name, False, f"{type(error).__name__}: {error}")


class Beside(threading.Thread):
    """A command whose lines go to the log as they come, and whose end is checked there. It runs beside other parts."""

    def __init__(self, log: Log, name: str, command: list[str], seconds: float, environment: dict[str, str]) -> None:
        super().__init__(name=name, daemon=True)
        self.log, self.command, self.until = log, command, log.until(seconds)
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", env=self.environment, start_new_session=True,
        )  # fmt: skip
        end = threading.Timer(self.until - began, os.killpg, (process.pid, signal.SIGKILL))
        end.start()
        assert process.stdout
        for line in process.stdout:
            self.log.say(f"{self.name} | {line.rstrip()}")
        code = process.wait()
        end.cancel()
        how = f"ended after {time.monotonic() - began:.1f} s with exit code {code}"
        self.log.check(self.name, code == 0, "its time was over" if code == -signal.SIGKILL else how)

    def end(self) -> None:
        """Wait for the end, which comes at the time limit at the latest."""
        self.join(max(0.0, self.until - time.monotonic()) + 5)


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.gpu_machine")
    arguments.add_argument("--log", type=Path, required=True, help="where the log goes")
    arguments.add_argument("--demo-cpus", default="", metavar="0,1", help="run `make demo` too, on these processors")
    arguments.add_argument("--llama-server", default="", help="a llama-server with CUDA, to answer on the card too")
    given = arguments.parse_args()
    log = Log(given.log)
    os.environ.setdefault("FTQ_HOME", tempfile.mkdtemp(prefix="ftq-gpu-"))
    describe(log)
    demo = start_demo(log, given.demo_cpus) if given.demo_cpus else None
    with log.part("ftq up"), up(FLOWER_PORT, log.until(READY)) as client:
        log.say("ftq up: every queue is served")
        deep = Beside(log, "ftq doctor --deep", [*FTQ, "doctor", "--deep"], DEEP, {})
        runs: list[str] = []
        with log.part("two runs"):
            two_runs(client, log, runs)
        with log.part("questions"):
            ask(log, runs)
        if given.llama_server:
            with log.part("llama-server"):
                answer_on_the_card(client, log, given.llama_server, runs[0])
        deep.end()
    log.check("nothing is left on the card", not on_the_card(), str(on_the_card()))
    if demo:
        demo.end()
    log.say(f"{log.failed} failed")
    os._exit(bool(log.failed))  # a thread that still reads doesn't keep it


def describe(log: Log) -> None:
    """The card and the processor, which the log's times belong to."""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    with log.part("nvidia-smi"):
        log.say(subprocess.run(asked, capture_output=True, text=True, timeout=30).stdout.strip())
    lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    found = {name.strip(): value.strip() for name, value in lines.items()}
    amx = " ".join(flag for flag in found.get("flags", "").split() if flag.startswith("amx"))
    log.say(f"{os.cpu_count()} processors, {found.get('model name')}, {f'with AMX: {amx}' if amx else 'without AMX'}")


def start_demo(log: Log, processors: str) -> Beside:
    """`make demo` on these processors, everything else on other cores. It shares nothing but the machine with the rest.

    It needs the command `ftq` beside this Python, as an installation has it.
    """
    cores = set[int]().union(*(core_of(int(number)) for number in processors.split(",")))
    log.say(f"the demo has the processors {processors}, on the cores of {sorted(cores)}")
    home = f"{os.environ['FTQ_HOME']}-demo"
    environment = {"CUDA_VISIBLE_DEVICES": "", "FTQ_HOME": home, "FTQ_CACHE": f"{home}-cache"}
    command = ["taskset", "-c", processors, sys.executable, "-m", "worker.host.demo"]
    demo = Beside(log, f"make demo on processors {processors}", command, DEMO, environment)
    os.sched_setaffinity(0, os.sched_getaffinity(0) - cores or os.sched_getaffinity(0))
    return demo


def core_of(processor: int) -> set[int]:
    """The processors of its core, itself among them."""
    path = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
    spans = [part.split("-") for part in path.read_text().strip().split(",")] if path.exists() else [[str(processor)]]
    return {number for span in spans for number in range(int(span[0]), int(span[-1]) + 1)}


def two_runs(client: Client, log: Log, runs: list[str]) -> None:
    """Add the ids of two runs to `runs`, and follow both to their end."""
    until = log.until(RUNS)
    runs.append(submit("first", "--set", "save_steps=40"))
    runs.append(submit("second", "--set", "seed=7", "--set", "max_steps=160"))
    kill_and_go_on(client, log, runs[0], step=60, until=until)
    for run_id in runs:
        run = wait(client, run_id, lambda run: run.is_finished, until)
        seconds = {stage.name: round(stage.finished_at - stage.started_at, 1) for stage in run.stages
                   if stage.finished_at and stage.started_at}  # fmt: skip
        log.check(f"{run.name} has succeeded", run.status == "succeeded", f"{run.status} {seconds} {run.error or ''}")
    for run_id in runs:
        for event in client.store.events(run_id):
            log.say(f"  {run_id} {event.stage or '-':8} {event.kind:10} {event.message[:150]}")
    kinds = [event.kind for event in client.store.events(runs[0]) if event.stage == "train"]
    log.check("the killed training went on from a checkpoint", "resumed" in kinds, ", ".join(kinds))
    seconds_of_both = max(overlap(client, *pair) for pair in (runs, runs[::-1]))
    log.check("one was exported while the other trained", seconds_of_both > 0, f"{seconds_of_both:.1f} s side by side")


def submit(name: str, *options: str) -> str:
    done = ftq("submit", "--model", "smollm2-135m", "--config", "demo.yaml", "--documents", "documents", "--name", name,
               "--quant", "q8_0", "--prompt", QUESTION, "--json", *options)  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    run_id: str = json.loads(done.stdout)["id"]
    return run_id


def ftq(*words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FTQ, *words], capture_output=True, text=True, timeout=seconds)


def kill_and_go_on(client: Client, log: Log, run_id: str, step: int, until: float) -> None:
    """kill -9 of the training process after a checkpoint."""
    train = wait(client, run_id, lambda run: step_of(run) >= step, until).stage("train")
    pid = pid_of(client, run_id, "train") if train.status == "running" else None
    log.check("the training of the first run has begun", pid is not None, f"{train.status} {train.progress}")
    if pid is not None:
        log.say(f"on the card: {on_the_card()}")
        os.kill(pid, signal.SIGKILL)
        log.say(f"kill -9 of its process {pid}")


def wait(client: Client, run_id: str, condition: Callable[[Run], bool], until: float) -> Run:
    while True:
        run = client.store.get(run_id)
        if condition(run) or run.is_finished or time.monotonic() > until:
            return run
        time.sleep(0.05)


def step_of(run: Run) -> int:
    """The training run's step; 0 before the first."""
    return (run.stage("train").progress or {}).get("step") or 0


def pid_of(client: Client, run_id: str, stage: str) -> int | None:
    started = [event for event in client.store.events(run_id) if event.kind == "started" and event.stage == stage]
    return int(started[-1].data["pid"]) if started and started[-1].data else None


def on_the_card() -> dict[int, str]:
    """{process id: MiB} of what holds memory of the GPU."""
    asked = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    lines = subprocess.run(asked, capture_output=True, text=True, timeout=30).stdout.splitlines()
    return {int(pid): memory.strip() for pid, memory in (line.split(",") for line in lines if "," in line)}


def overlap(client: Client, exported: str, trained: str) -> float:
    """Seconds for which one run's export and the other's training went on side by side; negative if they didn't."""
    export, train = client.store.get(exported).stage("export"), client.store.get(trained).stage("train")
    return min(export.finished_at or 0, train.finished_at or 0) - max(export.started_at or 0, train.started_at or 0)


def ask(log: Log, runs: list[str]) -> None:
    """A question through the queue, to each run and to the base model; then all of the questions."""
    until = log.until(ASK)
    for run_id, words in ((runs[0], ()), (runs[0], ()), (runs[1], ()), (runs[0], ("--base", "--max-tokens", "64"))):
        began = time.monotonic()
        with log.part(f"ftq infer {run_id}"):
            done = ftq("infer", run_id, QUESTION, "--json", *words, seconds=max(1.0, until - began))
            said = (done.stdout or done.stderr).strip().replace("\n", " ")
            log.check(f"ftq infer {run_id} {' '.join(words)}", done.returncode == 0,
                      f"{time.monotonic() - began:.1f} s {said[:300]}")  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.questions", runs[0], "--base-tokens", "64"]
    Beside(log, "the questions", command, QUESTIONS, {}).end()


def answer_on_the_card(client: Client, log: Log, binary: str, run_id: str) -> None:
    """A llama-server with CUDA answers while a training run holds the same card."""
    os.environ["FTQ_LLAMA_SERVER"] = binary
    until, third = log.until(LLAMA), submit("third", "--set", "seed=8")
    wait(client, third, lambda run: step_of(run) >= 20, until)
    before, pool = on_the_card(), Pool(gpu=True)
    file = client.run_dir(run_id).gguf("q8_0")
    answers = [pool.ask(file, Question(QUESTION)) for _ in range(3)]
    with pool.server(file) as server:
        log.say(f"on the card before {before}, with the server {server.pid}: {on_the_card()}")
    log.check(
        "llama-server with CUDA answers beside a training run",
        all(one.tokens for one in answers),
        "; ".join(f"{one.tokens / one.seconds:.0f} tokens/s" for one in answers) + f": {answers[0].answer[:200]}",
    )
    pool.close()
    del os.environ["FTQ_LLAMA_SERVER"]
    run = wait(client, third, lambda run: run.is_finished, until)
    log.check("and the training run beside it has succeeded", run.status == "succeeded", str(run.error or run.status))


if __name__ == "__main__":
    main()
