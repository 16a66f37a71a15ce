"""Creating a job: what is asked is checked, kept, and becomes an ordinary run, once however often it is sent."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from ftq.client.recording.names import family_of, new_id
from ftq.client.recording.record import make_home, recorded
from ftq.errors import Refused, UserError, printable
from ftq.files.disk import beside
from ftq.files.run_dir import link_tree
from ftq.spec import models as catalogue
from ftq.store.gateway.files import File
from ftq.store.gateway.jobs import Job
from ftq.store.gateway.keys import Key
from ftq.store.records import Run
from gateway import limits, models
from gateway.errors import ApiError
from gateway.shared import Gateway
from gateway.wire import Body

LEARNING_RATE = 2e-4  # what a learning_rate_multiplier multiplies
EPOCHS = 3  # where n_epochs is auto
CHECKPOINTS = 3  # that are kept, one an epoch
FEWEST = 10  # lines of a training file
CHECKED = 20_000  # lines that are looked at while the client waits; the worker looks at all
LONGEST_FAMILY = 100
TRAINING, VALIDATION = "training", "validation"  # files, and the folders that hold them
Auto = Literal["auto"]


def _number(most: float, whole: bool) -> Callable[[Any], Any]:
    kind, least = ("whole number from 1", 1) if whole else ("number over 0", 0)

    def check(value: Any) -> Any:
        allowed = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if value == "auto" or (allowed and least <= value <= most and value > 0):
            return value
        raise PydanticCustomError("number", f"it has to be 'auto' or a {kind} up to {most:,}")

    return check


class Hyperparameters(Body):
    n_epochs: Annotated[int | Auto, PlainValidator(_number(50, whole=True))] = "auto"
    batch_size: Annotated[int | Auto, PlainValidator(_number(256, whole=True))] = "auto"
    learning_rate_multiplier: Annotated[float | int | Auto, PlainValidator(_number(1 / LEARNING_RATE, whole=False))] = (
        "auto"
    )


class Supervised(Body):
    hyperparameters: Hyperparameters | None = None


class Method(Body):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None


class Wandb(Body):
    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class Integration(Body):
    type: Literal["wandb"]
    wandb: Wandb


Name = Annotated[str, Field(max_length=64)]
Value = Annotated[str, Field(max_length=512)]


class Create(Body):
    """The body of POST /v1/fine_tuning/jobs."""

    model: str = Field(min_length=1)
    training_file: str
    validation_file: str | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[str, PlainValidator(lambda value: _suffix(value))] | None = None
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    metadata: dict[Name, Value] | None = Field(None, max_length=16)
    integrations: list[Integration] | None = None

    @property
    def numbers(self) -> Hyperparameters:
        """The hyperparameters, wherever they stand."""
        inner = self.method.supervised.hyperparameters if self.method and self.method.supervised else None
        return inner or self.hyperparameters or Hyperparameters()


def _suffix(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        return value
    raise PydanticCustomError(
        "suffix", "1 to 64 letters, digits, '.', '_' and '-': the model's name is split at colons"
    )


def create(gateway: Gateway, key: Key, body: Create, idempotency_key: str | None, again: bool) -> tuple[Run, Job]:
    """The job's run, and what was asked. The same request sent `again` by a client gives the same job."""
    model = _check(body, key)
    jobs = gateway.client.store.jobs
    wanted = Job(new_id(), key.id, body.model_dump(exclude_unset=True), _seed(body))
    try:
        job = jobs.begin(wanted, idempotency_key, again)
    except Refused as error:
        raise ApiError(400, error.text, code="idempotency_error") from None
    if run := recorded(gateway.settings, gateway.client.store, job.run_id):
        return run, job
    try:
        limits.check_jobs(gateway.client.store, key)
        files = _files(gateway, key, body)
        with _staged(gateway, job.run_id, files) as folders:
            options = _options(body, model, job.seed, folders)
            run = gateway.client.submit_once(
                options, _family(model, body.suffix), job.run_id, owner=key.id, said=_said(files)
            )
        return run, job
    except (ApiError, UserError):
        jobs.forget(job.run_id)
        raise


def _check(body: Create, key: Key) -> str:
    """The base model. ApiError 400 for what can't be trained, without a look at any file."""
    method = body.method
    if method and (method.type != "supervised" or method.dpo or method.reinforcement):
        kind = method.type if method.type != "supervised" else "dpo" if method.dpo else "reinforcement"
        message = f"The method '{kind}' is not available: ftq trains with 'supervised'."
        raise ApiError(400, message, param="method.type", code="invalid_method")
    inner = method.supervised.hyperparameters if method and method.supervised else None
    if inner and body.hyperparameters and inner != body.hyperparameters:
        message = "'hyperparameters' and 'method.supervised.hyperparameters' differ: give one of them."
        raise ApiError(400, message, param="hyperparameters", code="invalid_value")
    return base_of_key(body.model, key)


def base_of_key(name: str, key: Key) -> str:
    """The base model of a name. A folder of the machine is for admins to name, or for FTQ_MODEL_ALIASES."""
    model = models.aliases().get(name, name)
    is_name = bool(catalogue.find(model)) or catalogue.is_hub_id(model)
    try:
        if is_name or key.admin or model != name:
            return catalogue.check(model)
    except UserError:
        pass
    message = f"Model {name} is not available for fine-tuning or does not exist. {models.OURS.format(name)}"
    if name.startswith("ft:"):
        message = f"{name} is a tuned model, and ftq doesn't train on from one: name the base model, and give all rows."
    raise ApiError(400, message, param="model", code="model_not_available")


def _files(gateway: Gateway, key: Key, body: Create) -> dict[str, File]:
    """{training or validation: the file}, checked as far as that is cheap."""
    wanted = {TRAINING: body.training_file} | ({VALIDATION: body.validation_file} if body.validation_file else {})
    return {part: _checked(gateway, key, part, file_id) for part, file_id in wanted.items()}


def _checked(gateway: Gateway, key: Key, part: str, file_id: str) -> File:
    from ftq.check import chats  # for the first job

    param = f"{part}_file"
    file = gateway.files.find(file_id, key)
    if file is None:
        message = f"There is no file '{file_id}', or you do not have access to it."
        raise ApiError(400, message, param=param, code="invalid_file")
    if file.purpose != "fine-tune":
        message = f"The file '{file_id}' has the purpose '{file.purpose}': it has to be 'fine-tune'."
        raise ApiError(400, message, param=param, code="invalid_file_purpose")
    path = gateway.files.path(file)
    try:
        _check_length(path, part)
        fault = chats.fault_in(path, CHECKED)
    except OSError:
        raise ApiError(400, f"The file '{file_id}' is gone.", param=param, code="invalid_file") from None
    if fault:
        message = f"The job failed due to an invalid {part} file. {fault.message}"
        raise ApiError(400, message, param=param, code=f"invalid_{part}_file")
    return file


def _check_length(path: Path, part: str) -> None:
    """ApiError 400 for too few lines; blank ones don't count."""
    from ftq.examples import json_records

    least = FEWEST if part == TRAINING else 1
    try:
        number = sum(1 for _ in islice(json_records.lines(path), least))
    except json_records.Malformed:  # as is said next
        return
    if number < least:
        message = f"{part.capitalize()} file has {number} example(s), but must have at least {least} examples"
        raise ApiError(400, message, param=f"{part}_file", code="invalid_n_examples")


@contextlib.contextmanager
def _staged(gateway: Gateway, run_id: str, files: dict[str, File]) -> Iterator[dict[str, Path]]:
    """Folders of documents, one for each file, from which the run takes its snapshots."""
    with staging(gateway, run_id) as place:
        folders = {part: place / part for part in files}
        for part, file in files.items():
            folders[part].mkdir()
            _link(gateway.files.path(file), folders[part] / f"{part}.jsonl", part)
        yield folders


@contextlib.contextmanager
def staging(gateway: Gateway, run_id: str) -> Iterator[Path]:
    """A folder for what a run is made of. `ftq gc` clears those that a killed server has left."""
    make_home(gateway.settings)
    folder = beside(gateway.settings.home / run_id)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _said(files: dict[str, File]) -> dict[str, str]:
    """What the run's options say of its documents: the folders that they are read from are gone then."""
    names = {part: f"{printable(file.filename)} ({file.id})" for part, file in files.items()}
    return {"documents": names[TRAINING], "validation": names.get(VALIDATION, "")}


def _link(path: Path, target: Path, part: str) -> None:
    try:
        link_tree(path, target)
    except FileNotFoundError:  # deleted at this moment
        raise ApiError(400, "The file is gone.", param=f"{part}_file", code="invalid_file") from None


def _options(body: Create, model: str, seed: int, folders: dict[str, Path]) -> dict[str, Any]:
    """The options of the run: the user's lines are the dataset, with nothing added and nothing held out."""
    from ftq.check import chats

    numbers, chat = body.numbers, _has_template(model)
    asked = folders.get(VALIDATION, folders[TRAINING])
    question = chats.first_question(next(asked.iterdir()))
    rate = 1.0 if numbers.learning_rate_multiplier == "auto" else numbers.learning_rate_multiplier
    return {
        "model": model,
        "documents": str(folders[TRAINING]),
        "validation": str(folders.get(VALIDATION, "")),
        "valid_fraction": 0,
        "questions": "none",
        "strict": True,
        "format": "chat" if chat else "alpaca",
        "epochs": EPOCHS if numbers.n_epochs == "auto" else numbers.n_epochs,
        "step_examples": numbers.batch_size,
        "learning_rate": rate * LEARNING_RATE,
        "seed": seed,
        "epoch_adapters": CHECKPOINTS if chat else 0,  # the base's GGUF has the base's template
        "logging_steps": 1,  # the result file has a row for each step
        "report_to": ["wandb"] if body.integrations else [],
        **({"prompts": [question]} if question else {}),
        **({} if VALIDATION in folders else {"eval_questions": 0}),  # nothing is held out to be asked
    }


def _has_template(model: str) -> bool:
    """Whether the base model is known to have a chat template of its own."""
    if not os.path.isabs(model):
        return catalogue.find(model) is not None
    if Path(model, "chat_template.jinja").is_file():
        return True
    try:
        return bool(json.loads(Path(model, "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def _family(model: str, suffix: str | None) -> str:
    return "-".join(filter(None, (family_of(model), suffix)))[:LONGEST_FAMILY]


def _seed(body: Create) -> int:
    return secrets.randbelow(2**31) if body.seed is None else body.seed
