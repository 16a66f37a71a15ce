"""`python -m benchmarks.scale_worker`: the real worker, but its stages take no time and no process of their own."""

import os

os.environ.setdefault("FTQ_STANDBY", "0")  # before the settings are read: there is nothing to import

from ftq.files.run_dir import RunDir
from ftq.store.records import Run
from worker.attempt.supervisor import Supervisor
from worker.attempt.watch import Outcome, Watch
from worker.host import worker

MADE = {  # what each stage publishes
    "prepare": "dataset/train.jsonl",
    "train": "adapter/adapter.json",
    "export": "model-q8_0.gguf",
    "infer": "answers.jsonl",
    "evaluate": "eval.json",
}


def execute(supervisor: Supervisor, run: Run, folder: RunDir, stage: str, attempt: int, watch: Watch) -> Outcome:
    made = folder.partial(stage, attempt) / MADE[stage]
    made.parent.mkdir(parents=True)
    made.write_text("{}\n")
    return Outcome()


Supervisor._execute = execute  # type: ignore[method-assign]  # in the pool's children too, who import this module anew

if __name__ == "__main__":
    worker.main()
