"""A run as OpenAI's clients know it: the job, its status, its hyperparameters, its checkpoints."""

from __future__ import annotations

import math
from typing import Any

from ftq.errors import OPTIONS
from ftq.files.run_dir import RunDir
from ftq.spec import models as catalogue
from ftq.spec import recipe
from ftq.store.gateway.jobs import Job
from ftq.store.records import Event, Run
from gateway import models
from gateway.errors import without_paths
from gateway.jobs import results
from gateway.jobs.create import LEARNING_RATE, TRAINING, VALIDATION

NEW_FILE = "Upload a corrected file, and create a job with it."
ANOTHER_MODEL = (
    "Create a job with another model (`client.models.list()` names those that are here), or ask whoever runs this "
    "server to provide this one: then the job goes on with"
)
FINAL = frozenset({"succeeded", "failed", "cancelled"})


def job_id(run: Run) -> str:
    return f"ftjob-{run.id}"


def status_of(run: Run) -> str:
    """A status never goes back, unless a person retries the run."""
    if run.wanted == "cancel":
        return "cancelled"  # however the stage ends that is still stopping
    if run.status in (*FINAL, "paused"):
        return run.status
    if run.stage("prepare").status != "succeeded":
        return "validating_files"
    train = run.stage("train")
    return "queued" if train.status == "queued" and train.attempt == 1 else "running"


def is_trained(run: Run) -> bool:
    """Whether the job is over, however it ended, and its training was done: then that has a result."""
    return status_of(run) in FINAL and run.stage("train").status == "succeeded"


def shown(run: Run, job: Job | None) -> dict[str, Any]:
    """The job object. Of a run of `ftq submit` it says what there is."""
    asked, status = job.asked if job else {}, status_of(run)
    hyperparameters = _hyperparameters(run, asked)
    succeeded, trained = status == "succeeded", is_trained(run)
    return {
        "object": "fine_tuning.job",
        "id": job_id(run),
        "model": run.model,
        "created_at": int(run.created_at),
        "finished_at": _finished_at(run, status),
        "fine_tuned_model": models.name_of(run, job) if succeeded else None,
        "organization_id": models.OWNED_BY,
        "result_files": [results.file_id(run)] if trained else [],
        "status": status,
        "validation_file": asked.get("validation_file"),
        "training_file": asked.get("training_file", f"file-{run.id}"),
        "hyperparameters": hyperparameters,
        "trained_tokens": (run.stage("train").plan or {}).get("trained_tokens") if trained else None,
        "error": _error(run) if status == "failed" else None,
        "user_provided_suffix": asked.get("suffix"),
        "seed": job.seed if job else run.spec["seed"],
        "estimated_finish": _estimated_finish(run) if status == "running" else None,
        "integrations": asked.get("integrations", []),
        "metadata": asked.get("metadata"),
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    }


def checkpoints(run: Run, job: Job | None, folder: RunDir, events: list[Event]) -> list[dict[str, Any]]:
    """The checkpoints that can be asked, the newest first. The newest one's name is the model's.

    Of a job that ended after its training they are those that `ftq retry` makes askable.
    """
    if not models.is_made(run) and not is_trained(run):
        return []
    lines = results.metrics(folder)
    by_step = {line["step"]: line for line in lines}
    saved = {event.data["step"]: event.at for event in events if event.kind == "checkpoint" and event.data}
    steps = _steps(run, folder) or sorted(by_step)[-1:]
    return [
        {
            "object": "fine_tuning.job.checkpoint",
            "id": f"ftckpt_{run.id}_{step}",
            "created_at": int(saved.get(step, models.created_of(run))),
            "fine_tuned_model_checkpoint": models.checkpoint_name(run, job, step, steps),
            "fine_tuning_job_id": job_id(run),
            "step_number": step,
            "metrics": results.numbers(by_step.get(step, {"step": step})),
        }
        for step in reversed(steps)
    ]


def _steps(run: Run, folder: RunDir) -> list[int]:
    """The steps of the checkpoints: as exported, else as the training run has left its adapters."""
    if models.is_made(run):
        return [step for step in models.checkpoint_steps(run) if folder.checkpoint(step).is_file()]
    return sorted(int(path.name) for path in folder.epochs.glob("*") if path.name.isdigit())


def _hyperparameters(run: Run, asked: dict[str, Any]) -> dict[str, Any]:
    """What was asked for; `auto` becomes the number used as soon as the training run has a plan."""
    plan, epochs = run.stage("train").plan or {}, math.ceil(run.spec["epochs"])
    if "batch_size" in plan:
        batch = plan["batch_size"] * plan["gradient_accumulation_steps"]
        return {"n_epochs": epochs, "batch_size": batch, "learning_rate_multiplier": _multiplier(run)}
    supervised = (asked.get("method") or {}).get("supervised") or {}
    told = supervised.get("hyperparameters") or asked.get("hyperparameters") or {}
    names = ("n_epochs", "batch_size", "learning_rate_multiplier")
    return {name: told.get(name, "auto") for name in names}


def _multiplier(run: Run) -> float | str:
    from ftq.spec.options import RunSpec  # building it takes longer than a poll: for runs of `ftq submit` alone

    rate = run.spec["learning_rate"]
    if rate == "auto":
        shape = catalogue.shape_of(run.model)
        if shape is None:
            return "auto"
        rate = recipe.recipe_of(RunSpec.model_construct(**run.spec), shape.parameters).learning_rate
    return float(f"{rate / LEARNING_RATE:.6g}")


def _finished_at(run: Run, status: str) -> int | None:
    ended = [stage.finished_at for stage in run.stages if stage.finished_at]
    return int(max(ended)) if status in FINAL and ended else None


def _estimated_finish(run: Run) -> int | None:
    """When the training ends, by its last report."""
    told = run.stage("train").progress or {}
    if run.stage("train").status != "running" or told.get("eta_seconds") is None or not told.get("updated_at"):
        return None
    return int(told["updated_at"] + told["eta_seconds"])


def _error(run: Run) -> dict[str, Any]:
    """Why the job failed, and what makes it go on."""
    stage = next(stage for stage in run.stages if stage.status == "failed")
    error = stage.error
    if error and error.about in (TRAINING, VALIDATION):
        text = f"The job failed due to an invalid {error.about} file. {without_paths(error.message)}\n{NEW_FILE}"
        return {"code": f"invalid_{error.about}_file", "message": text, "param": f"{error.about}_file"}
    retry = f"ftq retry {run.name}"
    if error and error.about == "model":
        why = without_paths(error.message)
        text = f"The model {run.model} is not available for fine-tuning: {why}\n{ANOTHER_MODEL} `{retry}`."
        return {"code": "model_not_available", "message": text, "param": "model"}
    text = error.text if error else f"the stage {stage.name} failed"
    message = without_paths(text)
    if retry not in message and not (error and error.about == OPTIONS):
        message = f"{message}\n`{retry}` goes on from {stage.name}: the job runs again then."
    return {"code": f"{stage.name}_failed", "message": message, "param": None}
