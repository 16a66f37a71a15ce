"""What a script for OpenAI's fine-tuning does: `gateway_flow.py TRAIN VALID`, and at last `gateway_flow.py delete`.

It runs with whichever version of the official client its interpreter has, imports nothing else, and validates every
answer strictly with the client's own models. What it saw is printed as JSON. OPENAI_BASE_URL, OPENAI_API_KEY.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import openai

BASE = "smollm2-135m"
OURS = {"user_provided_suffix", "store"}  # OpenAI's answers have them, its clients' types don't
NEWEST = openai.__version__ >= "3"  # an older client doesn't know every name in today's answers
SECONDS = 900
client = openai.OpenAI(max_retries=2)
jobs = client.fine_tuning.jobs
Refusal = list[Any]


def main(train: Path, valid: Path) -> None:
    saw: dict[str, Any] = {}
    files = [strict(client.files.create(file=path, purpose="fine-tune")) for path in (train, valid)]
    waited = [strict(client.files.wait_for_processing(file.id, poll_interval=0.1)) for file in files]
    saw["files"] = [[file.filename, file.purpose, file.status] for file in waited]
    saw["content"] = client.files.content(files[0].id).read() == train.read_bytes()
    saw["listed files"] = {file.id for file in files} <= {strict(file).id for file in client.files.list(limit=1)}

    asked: dict[str, Any] = {"model": BASE, "training_file": files[0].id, "suffix": "numbers", "seed": 7}
    asked["hyperparameters"] = {"n_epochs": 2, "batch_size": 1, "learning_rate_multiplier": 3}
    job = jobs.create(**asked, validation_file=files[1].id, metadata={"team": f"a b {openai.__version__}"})
    saw["new"] = [strict(job).status, job.model, job.seed, job.fine_tuned_model, job.error, job.result_files]
    saw["asked"] = [job.metadata == {"team": f"a b {openai.__version__}"}, job.validation_file == files[1].id]
    statuses = list(dict.fromkeys(followed(job.id)))
    saw["one way"] = statuses == [name for name in ("validating_files", "queued", "running", "succeeded")
                                  if name in statuses]  # fmt: skip
    job = strict(jobs.retrieve(job.id))
    assert job.status == "succeeded", job.error
    numbers = job.hyperparameters
    saw["done"] = [job.fine_tuned_model == f"ft:{BASE}:ftq:numbers:{job.id.removeprefix('ftjob-')}",
                   numbers.n_epochs, numbers.batch_size, numbers.learning_rate_multiplier,
                   (job.trained_tokens or 0) > 0, (job.finished_at or 0) >= job.created_at]  # fmt: skip
    saw["found"] = [strict(one).id for one in jobs.list(extra_query={"metadata[team]": f"a b {openai.__version__}"})][
        :1
    ] == [job.id]

    saw |= told(job.id) | kept(job) | measured(job)
    saw |= chats(job.fine_tuned_model) | stopped(asked) | refusals(files[0].id)
    saw["deleted"] = [strict(client.files.delete(file.id)).deleted for file in files]
    print(json.dumps(saw))


def followed(job_id: str) -> Iterator[str]:
    """The statuses, until the last one."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        status = strict(jobs.retrieve(job_id)).status
        yield status
        if status in ("succeeded", "failed", "cancelled"):
            return
        time.sleep(0.5)
    raise TimeoutError(f"{job_id} is still {status}")


def told(job_id: str) -> dict[str, Any]:
    """Its events, in one page and in pages of two."""
    whole = [strict(event) for event in jobs.list_events(job_id, limit=100).data]
    paged = [event.id for event in jobs.list_events(job_id, limit=2)]
    texts = [event.message for event in whole]
    steps = [event.data for event in reversed(whole) if event.type == "metrics"]
    return {
        "events": [texts[0], texts[1].split(":", 1)[0], texts[-1].replace(job_id, "JOB")],
        "paged": paged == [event.id for event in whole] and len(set(paged)) == len(paged),
        "steps": [[step["step"], step["total_steps"]] for step in steps],
        "losses": all(step["train_loss"] > 0 for step in steps),
    }


def kept(job: Any) -> dict[str, Any]:
    """Its checkpoints, each of which answers."""
    pages = [strict(one) for one in jobs.checkpoints.list(job.id, limit=1)]
    names = [one.fine_tuned_model_checkpoint for one in pages]
    answers = [strict(ask(name)) for name in names]
    return {
        "checkpoints": [one.step_number for one in pages],
        "named": [names[0] == job.fine_tuned_model, *(name.rpartition(":")[2] for name in names[1:])],
        "validated": all((one.metrics.valid_loss or 0) > 0 for one in pages),
        "answered": [answer.model for answer in answers] == names,
    }


def measured(job: Any) -> dict[str, Any]:
    """Its result file."""
    (file_id,) = job.result_files
    rows = list(csv.DictReader(io.StringIO(client.files.content(file_id).read().decode())))
    return {"result": [strict(client.files.retrieve(file_id)).purpose, [row["step"] for row in rows]]}


def chats(name: str) -> dict[str, Any]:
    """The tuned and the base model, streamed, whole, and in every other way."""
    seen: dict[str, Any] = {}
    for kind, model in (("tuned", name), ("base", BASE)):
        stream = ask(model, stream=True, stream_options={"include_usage": True})
        chunks = [strict(chunk) for chunk in stream]
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        usage, roles = chunks[-1].usage, [choice.delta.role for choice in chunks[0].choices]
        same = strict(ask(model)).choices[0].message.content == text
        seen[kind] = [roles, same, bool(usage and usage.prompt_tokens), {chunk.model for chunk in chunks} == {model}]
    several = strict(ask(name, n=2, logprobs=True, top_logprobs=2, temperature=1))
    seen["several"] = [
        [choice.index, len(choice.logprobs.content[0].top_logprobs), choice.finish_reason in ("stop", "length")]
        for choice in several.choices
    ]
    written = ask(BASE, response_format={"type": "json_object"}, max_tokens=60).choices[0]
    seen["json"] = written.finish_reason == "length" or isinstance(json.loads(written.message.content), dict)
    text = strict(client.completions.create(model=name, prompt="One, two,", max_tokens=4, temperature=0))
    seen["completion"] = [text.object, text.choices[0].finish_reason]
    answer = strict(client.responses.create(model=name, input="What is 3?", max_output_tokens=16, temperature=0))
    seen["response"] = [answer.object, answer.status in ("completed", "incomplete"), answer.model == name]
    names = [strict(model).id for model in client.models.list()]
    return seen | {"models": [name in names, BASE in names, strict(client.models.retrieve(name)).owned_by]}


def ask(model: str, **how: Any) -> Any:
    question = [{"role": "user", "content": "What is 3?"}]
    how = {"max_tokens": 6, "temperature": 0, "seed": 1, **how}
    return client.chat.completions.create(model=model, messages=question, **how)


def stopped(asked: dict[str, Any]) -> dict[str, Any]:
    """A job that is paused, goes on, and is cancelled."""
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 50}}}
    job = jobs.create(**{**asked, "seed": 8, "suffix": None, "hyperparameters": None, "method": method})
    jobs.pause(job.id)
    until = time.monotonic() + SECONDS
    while jobs.retrieve(job.id).status != "paused" and time.monotonic() < until:
        time.sleep(0.2)
    states = [jobs.retrieve(job.id).status]
    states.append(strict(jobs.resume(job.id)).status in ("validating_files", "queued", "running"))
    states.append(strict(jobs.cancel(job.id)).status)
    states.append(strict(jobs.retrieve(job.id)).status)
    last = jobs.list_events(job.id).data[0].message
    return {"stopped": states, "last": last, "again": refused(lambda: jobs.cancel(job.id))}


def refusals(file_id: str) -> dict[str, Refusal]:
    one = {"model": BASE, "training_file": file_id}
    return {
        "no model": refused(lambda: jobs.create(**{**one, "model": "gpt-5"})),
        "no file": refused(lambda: jobs.create(**{**one, "training_file": "file-x"})),
        "bad epochs": refused(lambda: jobs.create(**one, hyperparameters={"n_epochs": 99})),
        "no job": refused(lambda: jobs.retrieve("ftjob-x")),
        "no answer": refused(lambda: ask("ft:x:ftq::y")),
        "no messages": refused(lambda: client.chat.completions.create(model=BASE, messages=[])),
    }


def delete() -> None:
    """Delete the model of the job that succeeded."""
    (job,) = [one for one in jobs.list() if one.status == "succeeded"]
    name = job.fine_tuned_model
    deleted = strict(client.models.delete(name))
    print(json.dumps({
        "deleted": [deleted.deleted, deleted.id == name],
        "job stays": strict(jobs.retrieve(job.id)).status,
        "listed": name in {model.id for model in client.models.list()},
        "asked": refused(lambda: ask(name)),
        "again": refused(lambda: client.models.delete(name)),
    }))  # fmt: skip


def refused(call: Callable[[], Any]) -> Refusal:
    """[the exception's class, its status, code and param, whether it names the request]."""
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code, error.param, bool(error.request_id)]
    raise AssertionError("it was taken")


def strict(answer: Any) -> Any:
    """The answer, once the client's own model has found nothing missing, nothing of another type, nothing more."""
    values = json.dumps(answer.model_dump(mode="json", by_alias=True, exclude_unset=True))
    if NEWEST:
        assert not (more := set(unknown(answer))), f"{type(answer).__name__}: {more}"
    type(answer).model_validate_json(values, strict=True)
    return answer


def unknown(value: Any) -> Iterator[str]:
    """Names in the answer, at any depth, that the client's types don't have."""
    inner: Iterable[Any] = value if isinstance(value, list) else ()
    if isinstance(value, openai.BaseModel):
        more = set(value.model_extra or ())
        yield from more - OURS
        inner = [getattr(value, name) for name in value.model_fields_set - more]
    for one in inner:
        yield from unknown(one)


if __name__ == "__main__":
    delete() if sys.argv[1:] == ["delete"] else main(*map(Path, sys.argv[1:]))
