"""Fine-tuning jobs of the gateway, as OpenAI's own client makes and follows them; each answer is checked strictly."""

from __future__ import annotations

import base64
import csv
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest
import sqlalchemy as sa
from openai.types import Model, ModelDeleted
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from starlette.testclient import TestClient

from ftq.errors import RunError, UserError
from ftq.files.artifact import Artifact
from ftq.files.run_dir import STAGES, RunDir, write_jsonl
from ftq.programs import ServeOptions
from ftq.settings import Settings
from ftq.store.gateway.keys import Limits
from ftq.store.store import RunStore
from gateway import program
from gateway.app import make_app
from gateway.jobs import webhooks
from gateway.jobs.webhooks import Webhook
from gateway.shared import Gateway
from tests import tools
from tests.cli_tools import ok
from tests.tools import until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
MODEL = "smollm2-135m"
ROWS = [
    {"messages": [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"It is {n}."}]}
    for n in range(12)
]
Answer = TypeVar("Answer", bound=openai.BaseModel)
JOB = {*FineTuningJob.model_fields, "user_provided_suffix"}


class Site:
    """A gateway in this process, and clients of it."""

    def __init__(self, home: Path, database: str = "", **options: Any) -> None:
        settings = Settings.from_env({"FTQ_HOME": str(home), "FTQ_DATABASE_URL": database})
        self.app = make_app(settings, ServeOptions(**options))
        self.gateway: Gateway = self.app.state.gateway
        self.secret = self.gateway.client.store.keys.create("test", Limits(), admin=True).secret
        self.store: RunStore = self.gateway.client.store
        self.client = self.client_of(self.secret)

    def client_of(self, secret: str) -> openai.OpenAI:
        http = TestClient(self.app, base_url="http://gateway")
        return openai.OpenAI(base_url="http://gateway/v1", api_key=secret, http_client=http, max_retries=0)

    def another(self, name: str = "other", **limits: int) -> openai.OpenAI:
        return self.client_of(self.store.keys.create(name, Limits(**limits)).secret)

    def upload(self, rows: list[Any] = ROWS, client: openai.OpenAI | None = None) -> str:
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return (client or self.client).files.create(file=("rows.jsonl", text), purpose="fine-tune").id

    def create(self, **asked: Any) -> FineTuningJob:
        asked = {"model": MODEL, "training_file": asked.get("training_file") or self.upload(), **asked}
        job = self.client.fine_tuning.jobs.with_raw_response.create(**asked)
        return checked(FineTuningJob, job.http_response.json(), JOB)

    def job(self, job_id: str) -> FineTuningJob:
        answer = self.client.fine_tuning.jobs.with_raw_response.retrieve(job_id)
        return checked(FineTuningJob, answer.http_response.json(), JOB)

    def events(self, job_id: str, **asked: Any) -> list[FineTuningJobEvent]:
        answer = self.client.fine_tuning.jobs.with_raw_response.list_events(job_id, **asked).http_response.json()
        return [checked(FineTuningJobEvent, event) for event in answer["data"]]

    def folder(self, job: FineTuningJob) -> RunDir:
        return self.gateway.client.run_dir(run_id(job))

    def begin(self, job: FineTuningJob, stage: str) -> str:
        token = self.store.claim(run_id(job), stage, 1, "box", 60)
        assert token
        return token

    def do(self, job: FineTuningJob, *stages: str, artifacts: list[Artifact] | None = None) -> None:
        for stage in stages:
            self.store.succeed(self.begin(job, stage), None, artifacts or [])

    def train(self, job: FineTuningJob) -> None:
        """Six steps in three epochs, with a plan, metrics and checkpoints."""
        token = self.begin(job, "train")
        self.store.plan(token, "a plan", {"batch_size": 2, "gradient_accumulation_steps": 4, "trained_tokens": 4480})
        lines = [{"step": step, "train_loss": 1 / step} for step in range(1, 7)]
        lines[5] |= {"valid_loss": 0.25}
        write_jsonl(self.folder(job).metrics, lines)
        for step in (2, 4, 6):
            self.store.note(token, "checkpoint", f"checkpoint at step {step}", step=step)
        self.store.succeed(token, None, [])

    def finish(self, job: FineTuningJob) -> FineTuningJob:
        self.do(job, "prepare")
        self.train(job)
        folder = self.folder(job)
        for path in (folder.gguf("q4_k_m"), *map(folder.checkpoint, (2, 4, 6))):
            path.write_bytes(b"GGUF")
        self.do(job, "export", artifacts=[Artifact("gguf", f"checkpoint-{step}.gguf", 4) for step in (2, 4, 6)])
        self.do(job, "infer", "evaluate")
        return self.job(job.id)


def checked(model: type[Answer], answer: dict[str, Any], names: set[str] | None = None) -> Answer:
    """The answer as the client's own model, strictly, with no name that the client doesn't know and none missing."""
    assert set(answer) <= (names or set(model.model_fields))
    assert {name for name, field in model.model_fields.items() if field.is_required()} <= set(answer)
    if answer.get("status") == "paused":  # which OpenAI answers too, though its client's type hasn't got it
        return model.construct(**answer)
    return model.model_validate(answer, strict=True)


def run_id(job: FineTuningJob) -> str:
    return job.id.removeprefix("ftjob-")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "home")
    yield site
    site.gateway.client.close()


def refused(error: openai.APIStatusError) -> tuple[int, str | None, str | None]:
    assert set(error.body) == {"message", "type", "param", "code"}  # type: ignore[arg-type]
    return error.status_code, error.param, error.code


# ---- create -----------------------------------------------------------------------------------------------


def test_a_new_job_has_every_field(site: Site) -> None:
    file = site.upload()
    answer = site.client.fine_tuning.jobs.with_raw_response.create(model=MODEL, training_file=file).http_response.json()
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert answer.pop("id").startswith("ftjob-") and answer.pop("created_at") > 0 and 0 <= answer.pop("seed") < 2**31
    assert answer == {
        "object": "fine_tuning.job", "model": MODEL, "finished_at": None, "fine_tuned_model": None,
        "organization_id": "org-ftq", "result_files": [], "status": "validating_files", "validation_file": None,
        "training_file": file, "hyperparameters": auto, "trained_tokens": None, "error": None,
        "user_provided_suffix": None, "estimated_finish": None, "integrations": [], "metadata": None,
        "method": {"type": "supervised", "supervised": {"hyperparameters": auto}},
    }  # fmt: skip


def test_what_is_asked_becomes_the_options_of_a_run(site: Site) -> None:
    valid = site.upload([{"prompt": "What else?", "completion": "Nothing."}])
    wandb = {"type": "wandb", "wandb": {"project": "p", "tags": ["a"]}}
    job = site.create(
        validation_file=valid, suffix="Hand.book_1-x", seed=7, metadata={"team": "a b", "empty": ""},
        integrations=[wandb], hyperparameters={"n_epochs": 2, "batch_size": 3, "learning_rate_multiplier": 0.5},
    )  # fmt: skip
    told = (job.validation_file, job.seed, job.metadata, job.user_provided_suffix)  # type: ignore[attr-defined]
    assert told == (valid, 7, {"team": "a b", "empty": ""}, "Hand.book_1-x")
    assert job.integrations and job.integrations[0].wandb.project == "p"
    run = site.gateway.client.find(job.id)
    assert (run.name, run.status, run.owner) == ("smollm2-135m-Hand.book_1-x-1", "queued", site.store.keys.all()[0].id)
    wanted = {
        "epochs": 2, "step_examples": 3, "batch_size": "auto", "learning_rate": 1e-4, "seed": 7, "valid_fraction": 0,
        "questions": "none", "strict": True, "report_to": ["wandb"], "format": "chat", "epoch_adapters": 3,
        "prompts": ["What else?"],
    }  # fmt: skip
    assert {name: run.spec[name] for name in wanted} == wanted
    folder = site.folder(job)
    taken = {path.name: path.read_text() for path in (*folder.documents.iterdir(), *folder.validation.iterdir())}
    assert set(taken) == {"training.jsonl", "validation.jsonl"}
    assert [json.loads(line) for line in taken["training.jsonl"].splitlines()] == ROWS
    assert not list(site.gateway.settings.home.glob(".*.partial"))
    assert ok_status(site, job.id)["name"] == run.name
    files = (f"rows.jsonl ({job.training_file})", f"rows.jsonl ({valid})")
    assert (run.spec["documents"], run.spec["validation"]) == files
    assert folder.read_run()["spec"] == run.spec


def ok_status(site: Site, name: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTQ_HOME", str(site.gateway.settings.home))
        found: dict[str, Any] = json.loads(ok("status", name, "--json").stdout)
    return found


@pytest.mark.parametrize("nested", [False, True])
def test_hyperparameters_stand_in_either_place(site: Site, nested: bool) -> None:
    numbers: Any = {"n_epochs": 5, "batch_size": 8, "learning_rate_multiplier": 10}  # not 10.0
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    job = site.create(**({"method": method} if nested else {"hyperparameters": numbers}))
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (5, 8)
    assert job.hyperparameters.learning_rate_multiplier == 10
    with pytest.raises(openai.BadRequestError) as caught:
        site.create(method=method, hyperparameters={"n_epochs": 6})
    assert refused(caught.value) == (400, "hyperparameters", "invalid_value")


def test_nulls_are_absent_and_unknown_names_are_not_ignored(site: Site) -> None:
    names = ("validation_file", "integrations", "seed", "suffix", "metadata", "hyperparameters", "method")
    assert site.create(extra_body=dict.fromkeys(names)).metadata is None
    with pytest.raises(openai.BadRequestError) as caught:
        site.create(extra_body={"trainingType": 1})
    assert refused(caught.value) == (400, "trainingType", "unknown_parameter")


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"model": "gpt-9"}, "model", "model_not_available"),
        ({"model": "ft:smollm2-135m:ftq::x"}, "model", "model_not_available"),
        ({"training_file": "file-none"}, "training_file", "invalid_file"),
        ({"validation_file": "file-none"}, "validation_file", "invalid_file"),
        ({"suffix": "a:b"}, "suffix", "invalid_value"),
        ({"suffix": "a" * 65}, "suffix", "invalid_value"),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size", "invalid_value"),
        ({"hyperparameters": {"batch_size": True}}, "hyperparameters.batch_size", "invalid_value"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier",
         "invalid_value"),
        ({"hyperparameters": {"epochs": 3}}, "hyperparameters.epochs", "unknown_parameter"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_value"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_value"),
        ({"method": {"type": "dpo"}}, "method.type", "invalid_method"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, "method.type", "invalid_method"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_by_its_path(site: Site, asked: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        site.create(**asked)
    assert refused(caught.value) == (400, param, code)
    assert site.store.count() == 0


def test_a_model_that_is_none_says_what_to_type(site: Site) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        site.create(model="gpt-9")
    assert caught.value.body["message"] == (  # type: ignore[index]
        "Model gpt-9 is not available for fine-tuning or does not exist. `ftq models` lists what is; "
        "FTQ_MODEL_ALIASES=gpt-9=phi-3.5-mini, where the server is started, names one so."
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"messages": [{"content": "a"}]}, "Line 11, message 1: Discriminator 'role' is missing in value"),
        ({"messages": [{"role": "user", "content": "a"}]}, "Line 11, there has to be at least one message of"),
        ({"messages": [{"role": "wizard", "content": "a"}]}, "Line 11, message 1: role 'wizard' is none of"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "Line 11, message 1: 'content' has to be text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "Line 11, message 1: 'content' has to"),
        ({"messages": [*ROWS[0]["messages"], {"role": "user", "content": "a"}]}, "Line 11, the last message has to be"),
        ({"messages": [{"role": "assistant", "content": "a", "weight": 2}]}, "Line 11, message 1: 'weight' has to be"),
        (
            {"messages": [{"role": "user", "content": "a", "contnet": "b"}]},
            "Line 11, message 1: the key 'contnet' isn't known. Did you mean content?",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "b": 1}]}]},
            "Line 11, message 1: a part of 'content': the key 'b' isn't known.",
        ),
        ({"messages": [], "tools": [{}]}, "Line 11, ftq trains no tool calls"),
        ({"instruction": "a", "output": "b"}, "Line 11, Unexpected file format, expected either prompt/completion"),
        ({"prompt": "a", "completion": ""}, "Line 11, completion is empty"),
    ],
)
def test_a_bad_line_is_named(site: Site, line: Any, why: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        site.create(training_file=site.upload([*ROWS[:10], line]))
    assert refused(caught.value) == (400, "training_file", "invalid_training_file")
    assert f"The job failed due to an invalid training file. Invalid file format. {why}" in caught.value.message
    assert site.store.count() == 0


def test_parts_that_are_all_text_and_what_openai_knows_are_taken(site: Site) -> None:
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "this?"}]
    answer = {"role": "assistant", "content": parts[1:], "weight": 1, "refusal": None, "anything": None}
    row = {"messages": [{"role": "user", "content": parts, "name": "ana"}, answer]}
    assert site.create(training_file=site.upload([*ROWS[:10], row])).status == "validating_files"


def test_a_job_has_a_large_file_without_a_copy_of_it_and_outlasts_the_file(site: Site) -> None:
    more = {"role": "user", "content": "x" * 200_000}
    rows = [{"messages": [*row["messages"], more, row["messages"][1]]} for row in ROWS]
    uploaded = site.upload(rows)
    run = site.store.jobs.run(site.create(training_file=uploaded).id.removeprefix("ftjob-"))
    assert run
    taken = RunDir(site.gateway.settings.home / run.id).documents / "training.jsonl"
    assert taken.samefile(site.gateway.settings.home / "files" / uploaded)
    site.client.files.delete(uploaded)
    assert [json.loads(line) for line in taken.read_text().splitlines()] == rows


def test_a_tuned_model_is_not_trained_on(site: Site) -> None:
    with pytest.raises(openai.BadRequestError, match="doesn't train on from one: name the base model") as caught:
        site.create(model="ft:smollm2-135m:ftq::x")
    assert refused(caught.value) == (400, "model", "model_not_available")


def test_too_few_lines_and_a_file_for_something_else(site: Site) -> None:
    with pytest.raises(openai.BadRequestError, match="has 9 example") as caught:
        site.create(training_file=site.upload(ROWS[:9]))
    assert refused(caught.value) == (400, "training_file", "invalid_n_examples")
    text = b"".join(json.dumps(row).encode() + b"\n \n\r\n" for row in ROWS[:5])
    blanks = site.client.files.create(file=("a.jsonl", text), purpose="fine-tune").id
    with pytest.raises(openai.BadRequestError, match="has 5 example"):
        site.create(training_file=blanks)
    other = site.client.files.create(file=("a.jsonl", b'{"a": 1}\n' * 10), purpose="batch").id
    with pytest.raises(openai.BadRequestError) as caught:
        site.create(training_file=other)
    assert refused(caught.value) == (400, "training_file", "invalid_file_purpose")


def test_a_name_of_openais_stands_for_a_model_of_ours(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTQ_MODEL_ALIASES", f"gpt-4o-mini-2024-07-18={MODEL}, gpt-4.1 = qwen3-4b")
    assert site.create(model="gpt-4o-mini-2024-07-18").model == MODEL
    assert site.create(model="gpt-4.1").model == "qwen3-4b"


def test_a_name_that_stands_for_no_model_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTQ_MODEL_ALIASES", f"gpt-4={MODEL},gpt=nosuch")
    with pytest.raises(UserError, match=r"^FTQ_MODEL_ALIASES: gpt=nosuch: unknown model nosuch"):
        program._with_environment(ServeOptions())


def test_a_folder_of_the_machine_is_for_admins_to_name(site: Site, tmp_path: Path) -> None:
    other = site.another()
    with pytest.raises(openai.BadRequestError) as caught:
        other.fine_tuning.jobs.create(model=str(tmp_path), training_file=site.upload(client=other))
    assert refused(caught.value)[2] == "model_not_available"


def test_a_key_may_have_so_many_jobs(site: Site) -> None:
    other = site.another(jobs=1)
    file = site.upload(client=other)
    job = other.fine_tuning.jobs.create(model=MODEL, training_file=file)
    with pytest.raises(openai.RateLimitError) as caught:
        other.fine_tuning.jobs.create(model=MODEL, training_file=file)
    assert caught.value.code == "rate_limit_exceeded"
    other.fine_tuning.jobs.cancel(job.id)
    other.fine_tuning.jobs.create(model=MODEL, training_file=file)


# ---- sent twice -------------------------------------------------------------------------------------------


def test_a_request_that_a_client_sends_again_makes_one_job(site: Site) -> None:
    file = site.upload()
    first, again, new = (
        site.create(training_file=file, extra_headers={"x-stainless-retry-count": count}) for count in ("0", "1", "0")
    )
    assert first.id == again.id != new.id
    assert (first.seed, site.store.count()) == (again.seed, 2)


def test_an_end_that_is_asked_for_again_after_a_lost_answer_is_no_error(site: Site) -> None:
    job, jobs = site.create(), site.client.fine_tuning.jobs
    again = {"x-stainless-retry-count": "1"}
    for call, headers, state in (
        (jobs.pause, {}, "paused"), (jobs.pause, again, "paused"), (jobs.resume, {}, "validating_files"),
        (jobs.resume, again, "validating_files"), (jobs.cancel, {}, "cancelled"), (jobs.cancel, again, "cancelled"),
    ):  # fmt: skip
        assert call(job.id, extra_headers=headers).status == state
    with pytest.raises(openai.BadRequestError):
        jobs.pause(job.id, extra_headers=again)
    assert [event.message for event in jobs.list_events(job.id)][:2] == ["The job was cancelled", "resumed by the user"]


def test_an_idempotency_key_makes_one_job(site: Site) -> None:
    file, key = site.upload(), {"Idempotency-Key": "k"}
    assert (
        site.create(training_file=file, extra_headers=key).id == site.create(training_file=file, extra_headers=key).id
    )
    with pytest.raises(openai.BadRequestError, match="another body") as caught:
        site.create(training_file=file, seed=1, extra_headers=key)
    assert refused(caught.value) == (400, None, "idempotency_error")
    now = site.store.clock()
    site.store.clock = lambda: now + 90_000
    assert site.create(training_file=file, seed=1, extra_headers=key).seed == 1
    assert site.store.count() == 2


def test_the_same_request_at_once_from_many_sides_makes_one_job(site: Site) -> None:
    file, found = site.upload(), list[str]()
    barrier = threading.Barrier(6)

    def send() -> None:
        client = site.client_of(site.secret)
        barrier.wait()
        job = client.fine_tuning.jobs.create(model=MODEL, training_file=file, extra_headers={"Idempotency-Key": "k"})
        found.append(job.id)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(found)) == 1 and site.store.count() == 1


# ---- look -------------------------------------------------------------------------------------------------


def test_the_status_goes_one_way(site: Site) -> None:
    job = site.create()
    seen = [site.job(job.id).status]
    prepare = site.begin(job, "prepare")
    seen.append(site.job(job.id).status)
    site.store.lose(prepare, "lost")
    seen.append(site.job(job.id).status)
    site.store.succeed(site.store.claim(run_id(job), "prepare", 2, "box", 60) or "", None, [])
    seen.append(site.job(job.id).status)
    train = site.begin(job, "train")
    site.store.progress(train, {"percent": 10, "step": 1, "total_steps": 10, "eta_seconds": 60.0})
    running = site.job(job.id)
    assert running.estimated_finish and running.estimated_finish > running.created_at
    seen.append(running.status)
    site.store.lose(train, "lost")
    seen.append(site.job(job.id).status)
    assert seen == ["validating_files"] * 3 + ["queued", "running", "running"]


def test_a_job_that_has_succeeded(site: Site) -> None:
    job = site.finish(site.create(suffix="book"))
    name = f"ft:{MODEL}:ftq:book:{run_id(job)}"
    assert (job.status, job.fine_tuned_model, job.trained_tokens, job.error) == ("succeeded", name, 4480, None)
    assert job.hyperparameters.model_dump() == {"batch_size": 8, "learning_rate_multiplier": 1.0, "n_epochs": 3}
    assert job.finished_at and job.estimated_finish is None
    [file_id] = job.result_files
    rows = list(csv.DictReader(io.StringIO(site.client.files.content(file_id).read().decode())))
    empty = {"train_accuracy": "", "valid_mean_token_accuracy": ""}
    assert len(rows) == 6
    assert rows[0] == {"step": "1", "train_loss": "1.0", "valid_loss": "", **empty}
    assert rows[5]["valid_loss"] == "0.25"
    file = site.client.files.retrieve(file_id)
    assert (file.purpose, file.filename) == ("fine-tune-results", "step_metrics.csv")


def test_result_files_may_be_encoded_as_openai_does(site: Site) -> None:
    job = site.finish(site.create())
    first = site.client.files.content(job.result_files[0]).read()  # which writes it
    site.gateway.options = ServeOptions(base64_results=True)  # started again
    content = site.client.files.content(job.result_files[0]).read()
    assert base64.b64decode(content) == first
    assert first.startswith(b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy")
    assert site.client.files.retrieve(job.result_files[0]).bytes == len(content)
    assert [one.bytes for one in site.client.files.list(purpose="fine-tune-results")] == [len(content)]
    site.gateway.options = ServeOptions()
    assert site.client.files.retrieve(job.result_files[0]).bytes == len(first)


def test_the_events_of_a_job_that_has_succeeded(site: Site) -> None:
    valid = site.upload(ROWS[:1])
    job = site.finish(site.create(validation_file=valid))
    name = job.fine_tuned_model
    messages = [event.message for event in site.events(job.id, limit=100)]
    assert messages == [
        "The job has successfully completed",
        f"New fine-tuned model created: {name}",
        f"Checkpoint created at step 4 with Snapshot ID: {name}:ckpt-step-4",
        f"Checkpoint created at step 2 with Snapshot ID: {name}:ckpt-step-2",
        "Step 6/6: training loss=0.17, validation loss=0.25, full validation loss=0.25",
        *(f"Step {step}/6: training loss={1 / step:.2f}" for step in (5, 4, 3, 2, 1)),
        "Fine-tuning job started",
        "Files validated, moving job to queued state",
        f"Validating training file: {job.training_file} and validation file: {valid}",
        f"Created fine-tuning job: {job.id}",
    ]
    step = site.events(job.id, limit=5)[4]
    data = {"step": 6, "train_loss": 1 / 6, "valid_loss": 0.25, "full_valid_loss": 0.25, "total_steps": 6}
    assert (step.type, step.level, step.data) == ("metrics", "info", data)
    pages = [event.id for event in site.client.fine_tuning.jobs.list_events(job.id, limit=3)]
    assert len(pages) == len(set(pages)) == len(messages)


def test_events_keep_their_ids_while_more_come(site: Site) -> None:
    job = site.create()
    site.do(job, "prepare")
    token = site.begin(job, "train")
    attempt = site.folder(job).checkpoints / "1"
    attempt.mkdir(parents=True)
    write_jsonl(attempt / "metrics.jsonl", [{"step": 1, "train_loss": 1.0}])
    before = {event.id: event.message for event in site.events(job.id)}
    site.store.note(token, "checkpoint", "checkpoint at step 1", step=1)
    write_jsonl(attempt / "metrics.jsonl", [{"step": step, "train_loss": 1.0} for step in (1, 2)])
    after = [event.id for event in site.events(job.id)]
    assert after[1:] == list(before) and len(set(after)) == len(after)


def test_checkpoints_are_those_that_can_be_asked(site: Site) -> None:
    job = site.create()
    assert site.client.fine_tuning.jobs.checkpoints.list(job.id).data == []
    job = site.finish(job)
    answer = site.client.fine_tuning.jobs.checkpoints.with_raw_response.list(job.id).http_response.json()
    found = [checked(FineTuningJobCheckpoint, one) for one in answer["data"]]
    assert (answer["object"], answer["has_more"]) == ("list", False)
    assert (answer["first_id"], answer["last_id"]) == (found[0].id, found[-1].id)
    name = job.fine_tuned_model
    assert [(one.step_number, one.fine_tuned_model_checkpoint) for one in found] == [
        (6, name), (4, f"{name}:ckpt-step-4"), (2, f"{name}:ckpt-step-2"),
    ]  # fmt: skip
    assert found[0].metrics.to_dict() == {"step": 6, "train_loss": 1 / 6, "valid_loss": 0.25, "full_valid_loss": 0.25}
    assert len(list(site.client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))) == 3


@pytest.mark.parametrize(
    ("stage", "kind", "about", "code", "param"),
    [
        ("prepare", "user", "training", "invalid_training_file", "training_file"),
        ("prepare", "user", "validation", "invalid_validation_file", "validation_file"),
        ("prepare", "user", "model", "model_not_available", "model"),
        ("train", "user", "model", "model_not_available", "model"),
        ("prepare", "user", "", "prepare_failed", None),
        ("prepare", "bug", "", "prepare_failed", None),
        ("train", "user", "", "train_failed", None),
        ("train", "user", "options", "train_failed", None),  # the same would fail again
        ("export", "bug", "", "export_failed", None),
    ],
)
def test_a_job_that_has_failed(site: Site, stage: str, kind: str, about: str, code: str, param: str | None) -> None:
    job = site.create()
    site.do(job, *STAGES[: STAGES.index(stage)])
    site.store.fail(site.begin(job, stage), RunError(kind, "it went wrong", "Give it as --model DIR.", about=about))
    job = site.job(job.id)
    assert job.error and (job.status, job.error.code, job.error.param) == ("failed", code, param)
    assert "it went wrong" in job.error.message
    assert ("--model DIR" in job.error.message) == (param is None)  # the words of ftq's command line
    assert ("ftq retry smollm2-135m-1" in job.error.message) == (param in (None, "model") and about != "options")
    last = site.events(job.id)[0]
    assert (last.level, last.message) == ("error", job.error.message)
    site.store.retry(run_id(job))
    assert (site.job(job.id).status, site.job(job.id).error) == (
        "validating_files" if stage == "prepare" else "running", None,
    )  # fmt: skip


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_what_a_job_has_trained_is_shown_however_it_ends(site: Site, end: str) -> None:
    job = site.create()
    site.do(job, "prepare")
    site.train(job)
    for step in (2, 4, 6):
        (site.folder(job).epochs / str(step)).mkdir(parents=True)
    assert (site.job(job.id).trained_tokens, site.job(job.id).result_files) == (None, [])
    if end == "failed":
        site.store.fail(site.begin(job, "export"), RunError("bug", "llama.cpp ended", ""))
    else:
        assert site.client.fine_tuning.jobs.cancel(job.id).result_files
    over = site.job(job.id)
    assert (over.status, over.trained_tokens, over.fine_tuned_model) == (end, 4480, None)
    assert len(site.client.files.content(over.result_files[0]).read().splitlines()) == 7
    found = site.client.fine_tuning.jobs.checkpoints.list(job.id).data
    name = f"ft:{MODEL}:ftq::{run_id(job)}"
    assert [(one.step_number, one.fine_tuned_model_checkpoint) for one in found] == [
        (6, name), (4, f"{name}:ckpt-step-4"), (2, f"{name}:ckpt-step-2"),
    ]  # fmt: skip
    assert [one.metrics.train_loss for one in found] == [1 / 6, 1 / 4, 1 / 2]
    with pytest.raises(openai.NotFoundError, match="hasn't exported it"):
        site.client.models.retrieve(name)


def test_jobs_are_listed_by_pages_the_newest_first(site: Site) -> None:
    file = site.upload()
    made = [site.create(training_file=file, metadata={"n": str(n % 2), "of": "a b"}).id for n in range(5)]
    plain = site.create(training_file=file).id
    listed = site.client.fine_tuning.jobs.with_raw_response.list(limit=2).http_response.json()
    assert [one["id"] for one in listed["data"]] == [plain, made[4]] and listed["has_more"] is True
    assert [checked(FineTuningJob, one, JOB).id for one in listed["data"]] == [plain, made[4]]
    assert [job.id for job in site.client.fine_tuning.jobs.list(limit=2)] == [plain, *made[::-1]]
    odd = site.client.fine_tuning.jobs.list(metadata={"n": "1", "of": "a b"}, limit=1)
    assert [job.id for job in odd] == [made[3], made[1]]
    assert [job.id for job in site.client.fine_tuning.jobs.list(metadata={"n": ""})] == []
    assert [job.id for job in site.client.fine_tuning.jobs.list(extra_query={"metadata": "null"})] == [plain]
    for asked in ({"after": "ftjob-none"}, {"limit": 0}):
        with pytest.raises(openai.BadRequestError):
            site.client.fine_tuning.jobs.list(**asked)  # type: ignore[arg-type]


def test_a_poll_is_two_queries_and_its_events_one_more(site: Site) -> None:
    job, said = site.finish(site.create()), list[str]()
    jobs = site.client.fine_tuning.jobs
    sa.event.listen(site.store.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    counts = []
    for ask in (lambda: jobs.retrieve(job.id), lambda: jobs.list(), lambda: jobs.list_events(job.id, limit=1)):
        said.clear()
        ask()
        counts.append(len([one for one in said if not one.startswith("BEGIN") and "FROM keys" not in one]))
    assert counts == [2, 2, 3]


def test_a_key_sees_its_own_and_an_admin_sees_all(site: Site, tmp_path: Path) -> None:
    other = site.another()
    mine = other.fine_tuning.jobs.create(model=MODEL, training_file=site.upload(client=other))
    job = site.create()
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.md").write_text("# A\n\nThe text of A, which is long enough.\n" * 9)
    by_hand = site.gateway.client.submit({"model": MODEL, "documents": str(tmp_path / "documents")}, "hand").run
    assert [one.id for one in other.fine_tuning.jobs.list()] == [mine.id]
    assert {one.id for one in site.client.fine_tuning.jobs.list()} == {mine.id, job.id, f"ftjob-{by_hand.id}"}
    shown = site.job(f"ftjob-{by_hand.id}")
    assert (shown.training_file, shown.seed, shown.hyperparameters.n_epochs) == (f"file-{by_hand.id}", 3407, "auto")
    jobs = other.fine_tuning.jobs
    for ask in (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.NotFoundError, match="Could not find fine tune: ") as caught:
            ask(job.id)
        assert refused(caught.value) == (404, "fine_tune_id", "fine_tune_not_found")


# ---- control ----------------------------------------------------------------------------------------------


def test_cancel_ends_a_job_at_once_and_only_once(site: Site) -> None:
    job = site.create()
    site.do(job, "prepare")
    token = site.begin(job, "train")
    jobs = site.client.fine_tuning.jobs
    assert jobs.cancel(job.id).status == site.job(job.id).status == "cancelled"
    site.store.fail(token, RunError("user", "it failed while it was stopped"))
    assert site.job(job.id).status == "cancelled"
    assert "The job was cancelled" in [event.message for event in site.events(job.id)]
    for act in (jobs.cancel, jobs.pause, jobs.resume):
        with pytest.raises(openai.BadRequestError) as caught:
            act(job.id)
        assert refused(caught.value) == (400, None, "invalid_job_state")


def test_pause_and_resume(site: Site) -> None:
    job = site.create()
    site.do(job, "prepare")
    token = site.begin(job, "train")
    jobs = site.client.fine_tuning.jobs
    with pytest.raises(openai.BadRequestError) as caught:
        jobs.resume(job.id)
    assert refused(caught.value) == (400, None, "invalid_job_state")
    assert jobs.pause(job.id).status == "running"  # it still saves
    site.store.release(token, "paused", "paused at step 1")
    assert site.job(job.id).status == "paused"
    assert jobs.resume(job.id).status == "running"


def test_a_body_of_cancel_is_not_looked_at(site: Site) -> None:
    job, api = site.create(), TestClient(site.app, headers={"authorization": f"Bearer {site.secret}"})
    answer = api.post(
        f"/v1/fine_tuning/jobs/{job.id}/cancel", content=b"", headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "checkpoints/ft:a:ftq::b/permissions"), ("POST", "checkpoints/ft:a:ftq::b/permissions"),
        ("DELETE", "checkpoints/ft:a:ftq::b/permissions/c"), ("POST", "alpha/graders/run"),
        ("POST", "alpha/graders/validate"),
    ],
)  # fmt: skip
def test_what_ftq_has_not(site: Site, method: str, path: str) -> None:
    api = TestClient(site.app, headers={"authorization": f"Bearer {site.secret}"})
    answer = api.request(method, f"/v1/fine_tuning/{path}")
    assert answer.status_code == 404 and set(answer.json()["error"]) == {"message", "type", "param", "code"}


# ---- models -----------------------------------------------------------------------------------------------


def test_models_are_found_by_each_of_their_names(site: Site) -> None:
    job = site.finish(site.create(suffix="book"))
    name = job.fine_tuned_model
    assert name
    data = site.client.models.with_raw_response.list().http_response.json()["data"]
    assert {checked(Model, one).id for one in data} >= {MODEL, name, "smollm2-135m-book:1"}
    names = (MODEL, name, f"{name}:ckpt-step-2", "smollm2-135m-book:1", "smollm2-135m-book:latest",
             "smollm2-135m-book-1")  # fmt: skip
    for one in names:
        assert site.client.models.retrieve(one).id == one
    other = site.another()
    wrong = f"ft:{MODEL}:ftq:other:{run_id(job)}"
    unknown = [wrong, f"{name}:ckpt-step-3", f"{name}:x", "nothing", run_id(job)[:4]]
    for client, one in ((other, name), *((site.client, one) for one in unknown)):
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve(one)
        assert refused(caught.value) == (404, "model", "model_not_found")


def test_a_model_is_deleted_and_its_job_stays(site: Site) -> None:
    job = site.finish(site.create())
    name = job.fine_tuned_model or ""
    answer = site.client.models.with_raw_response.delete(name).http_response.json()
    assert checked(ModelDeleted, answer).deleted is True
    assert not list(site.folder(job).path.glob("*.gguf"))
    for act in (site.client.models.delete, site.client.models.retrieve):
        with pytest.raises(openai.NotFoundError) as caught:
            act(name)
        assert refused(caught.value) == (404, "model", "model_not_found")
    assert name not in {model.id for model in site.client.models.list()}
    assert site.job(job.id).status == "succeeded"
    assert site.client.fine_tuning.jobs.checkpoints.list(job.id).data[0].fine_tuned_model_checkpoint == name
    with pytest.raises(openai.PermissionDeniedError):
        site.client.models.delete(MODEL)


# ---- webhooks ---------------------------------------------------------------------------------------------

SECRET = "whsec_" + base64.b64encode(b"a" * 32).decode()


class Receiver:
    """A server of its own that takes webhooks, with the statuses to answer."""

    def __init__(self, *statuses: int) -> None:
        self.taken = list[tuple[bytes, dict[str, str]]]()
        waiting, taken = list(statuses), self.taken

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append((self.rfile.read(int(self.headers["content-length"])), dict(self.headers)))
                self.send_response(waiting.pop(0) if waiting else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.webhook = Webhook(f"http://127.0.0.1:{self.server.server_port}/", b"a" * 32)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_webhooks_tell_of_each_end_once_and_again_after_a_failure(site: Site) -> None:
    receiver = Receiver(500)
    site.store.webhooks.keep(webhooks.WEBHOOK, receiver.webhook.url)
    file = site.upload()
    done, failed, cancelled, _ = (site.create(training_file=file) for _ in range(4))
    site.finish(done)
    site.store.fail(site.begin(failed, "prepare"), RunError("user", "no", ""))
    site.client.fine_tuning.jobs.cancel(cancelled.id)
    other = Gateway(site.gateway.settings, site.gateway.options, site.gateway.client)
    now = site.store.clock()
    site.store.clock = lambda: now  # however long sending takes, what failed isn't due again
    assert [webhooks.send_due(gateway, receiver.webhook) for gateway in (site.gateway, other)] == [3, 0]
    site.store.clock = lambda: now + 6
    assert [webhooks.send_due(gateway, receiver.webhook) for gateway in (site.gateway, other)] == [1, 0]
    receiver.close()
    events = [site.client.webhooks.unwrap(body, headers, secret=SECRET) for body, headers in receiver.taken]
    told = {(event.type, event.data.id) for event in events}  # type: ignore[union-attr]
    assert told == {
        ("fine_tuning.job.succeeded", done.id), ("fine_tuning.job.failed", failed.id),
        ("fine_tuning.job.cancelled", cancelled.id),
    }  # fmt: skip
    assert events[3].id == events[0].id and len({event.id for event in events}) == 3


def test_what_ended_while_no_gateway_was_up_is_told_and_what_ended_before_is_not(site: Site) -> None:
    file = site.upload()
    early = site.create(training_file=file)
    site.client.fine_tuning.jobs.cancel(early.id)
    now = site.store.clock()
    site.store.clock = lambda: now + 10
    receiver = Receiver()
    site.store.webhooks.keep(webhooks.WEBHOOK, receiver.webhook.url)
    site.store.clock = lambda: now + 20
    late = site.create(training_file=file)
    site.store.cancel(run_id(late))
    assert webhooks.send_due(site.gateway, receiver.webhook) == 1
    receiver.close()
    assert json.loads(receiver.taken[0][0])["data"] == {"id": late.id}


@pytest.mark.parametrize(
    ("url", "secret"), [("ftp://a", SECRET), ("http://a", ""), ("http://a", "whsec_!"), ("http://a", "YWFh")]
)
def test_webhooks_that_are_set_up_wrongly(url: str, secret: str) -> None:
    with pytest.raises(UserError, match=r"^FTQ_WEBHOOK_"):
        Webhook.from_env({"FTQ_WEBHOOK_URL": url, "FTQ_WEBHOOK_SECRET": secret})


@pytest.mark.long
def test_jobs_over_postgresql(postgres: str, tmp_path: Path) -> None:
    """The store's statements on the other database."""
    site, receiver = Site(tmp_path / "home", postgres), Receiver()
    site.store.webhooks.keep(webhooks.WEBHOOK, receiver.webhook.url)
    file, key = site.upload(), {"Idempotency-Key": "k"}
    first, same = (site.create(training_file=file, metadata={"a": "b"}, extra_headers=key) for _ in range(2))
    again = site.create(training_file=file, metadata={"a": "b"}, extra_headers={"x-stainless-retry-count": "1"})
    assert first.id == same.id == again.id
    done, last = site.finish(site.create(training_file=file)), site.create(training_file=file)
    assert [job.id for job in site.client.fine_tuning.jobs.list(limit=1)] == [last.id, done.id, first.id]
    assert [job.id for job in site.client.fine_tuning.jobs.list(metadata={"a": "b"})] == [first.id]
    assert done.fine_tuned_model in {model.id for model in site.client.models.list()}
    assert site.events(done.id)[0].message == "The job has successfully completed"
    site.client.fine_tuning.jobs.cancel(last.id)
    assert [webhooks.send_due(site.gateway, receiver.webhook) for _ in range(2)] == [2, 0]
    receiver.close()
    site.gateway.client.close()


# ---- the queue --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_script_of_openais_runs_over_a_real_queue(tmp_path: Path) -> None:
    bench = tools.Bench(tmp_path / "home")
    try:
        bench.start_broker()
        site = Site(tmp_path / "home")
        valid = site.upload(ROWS[:2])
        failing, paused, job = site.create(), site.create(), site.create(validation_file=valid, suffix="x")
        (site.folder(failing).documents / "behave.json").write_text(json.dumps({"prepare": {"1": "user"}}))
        site.client.fine_tuning.jobs.pause(paused.id)
        bench.start_worker()
        until(lambda: site.job(job.id).status == "succeeded")
        until(lambda: site.job(failing.id).status == "failed")
        assert site.job(paused.id).status == "paused"
        site.client.fine_tuning.jobs.resume(paused.id)
        until(lambda: site.job(paused.id).status == "succeeded")
        done = site.job(job.id)
        assert (done.trained_tokens, done.hyperparameters.batch_size) == (600, 8)
        steps = [one.step_number for one in site.client.fine_tuning.jobs.checkpoints.list(job.id)]
        assert steps == [6, 4, 2]
        assert site.events(job.id)[0].message == "The job has successfully completed"
        assert len(site.client.files.content(done.result_files[0]).read().splitlines()) == 7
        assert "Klingon" in site.job(failing.id).error.message  # type: ignore[union-attr]
        again = site.create(training_file=job.training_file, validation_file=valid, seed=job.seed, suffix="x")
        until(lambda: site.job(again.id).status == "succeeded")  # from the cache
        assert site.job(again.id).hyperparameters == done.hyperparameters
        assert site.job(again.id).trained_tokens == 600
    finally:
        bench.close()
