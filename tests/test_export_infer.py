"""Export, infer, evaluate on a tiny real model: what is shipped answers by the training's prompt and tokens."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from ftq.errors import UserError
from ftq.evaluation.evaluation import Evaluation, Kind
from ftq.examples import json_records
from ftq.examples.prompt import CHAT_TEMPLATE, OLLAMA_TEMPLATE, prompt
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir, read_jsonl, write_json, write_jsonl
from ftq.spec.options import parse
from tests import forked
from tests.test_train import prepared, stage, unbroken  # noqa: F401 (fixtures)
from tests.tiny import HIDDEN, VOCABULARY, make_run, make_tiny_model
from worker.llama.answer import Question
from worker.llama.base import base_gguf
from worker.llama.pool import Pool
from worker.stages.export import card, export
from worker.stages.infer import infer
from worker.stages.model import merge
from worker.stages.model.tokens import Tokens
from worker.stages.process.main import Report
from worker.stages.process.quiet import SAID_ALWAYS, quiet

QUESTIONS = ["What is 3?", "Say 2048 twice <|im_end|> now", "Größe: 12 GB,\n\ttabs & “quotes”", "x " * 40, ""]


# ---- without a model ---------------------------------------------------------------------------------------


def test_the_modelfile_holds_the_trained_prompt_and_its_stop(tmp_path: Path) -> None:
    tokens = Tokens(make_tiny_model(tmp_path / "tiny"))
    spec = parse({"model": "smollm2-135m", "quantizations": ["q8_0", "q4_k_m"]})
    dataset, ends = DatasetReport(stop="<|im_end|>", max_seq_length=512), ["<|im_end|>", "<|endoftext|>"]
    without = (
        "FROM ./model-q8_0.gguf\n"
        f'TEMPLATE """{OLLAMA_TEMPLATE}"""\n'
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|endoftext|>"\n'
        "PARAMETER temperature 0.2\n"
        "PARAMETER num_ctx 512\n"
    )
    assert card.modelfile(spec, dataset, tokens, ends) == without
    told = 'SYSTEM """Say \'\'\'no\'\'\'."""\nPARAMETER stop "<|im'
    given = card.modelfile(spec, dataset, tokens, ends, 'Say """no""".')
    assert given == without.replace('PARAMETER stop "<|im', told)
    assert OLLAMA_TEMPLATE.endswith("\nInstruction: {{ $question }}, Input: {{ $before }}, Response:")


def test_what_every_example_is_told_is_the_system_message(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.dataset.mkdir()
    rows = [{"input": "Be brief. "}, {"input": "Be brief."}, {"input": ""}]
    write_jsonl(run.dataset / "train.jsonl", rows[:2])
    assert card.system(run) == "Be brief."
    write_jsonl(run.dataset / "train.jsonl", rows)
    assert card.system(run) == ""
    chats = [
        {"input": f"Be brief.\nUser: {n}", "turns": json.dumps([["system", "Be brief."], ["user", n]])} for n in "ab"
    ]
    write_jsonl(run.dataset / "train.jsonl", [*rows[:1], *chats])
    assert card.system(run) == "Be brief."
    write_jsonl(run.dataset / "train.jsonl", [{"input": "User: a", "turns": '[["user", "a"]]'}])
    assert card.system(run) == ""


def rendered(messages: list[dict[str, Any]]) -> str:
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # as transformers has it

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(CHAT_TEMPLATE).render(messages=messages)


def said(*messages: tuple[str, str | None]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in messages]


def test_a_model_card_without_metrics_says_so(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.metrics.touch()
    assert card._losses(run) == "No losses were recorded."


def test_the_chat_template_renders_the_trained_prompt() -> None:
    assert rendered(said(("user", " Q "))) == prompt("Q")
    assert rendered(said(("system", "S "), ("user", "Q"))) == prompt("Q", "S")
    assert rendered(said(("user", "Q"), ("assistant", "to be continued"))) == prompt("Q")
    assert rendered(said(("assistant", None), ("user", "Q"))) == prompt("Q", "Assistant:")


def test_the_chat_template_renders_a_chat_as_it_was_trained() -> None:
    chat = said(
        ("system", "You are the help desk."), ("assistant", "Hello."), ("assistant", "How can I help?"),
        ("user", "My model is the X200."), ("assistant", "Noted. "),
        ("developer", "Be brief."), ("user", "Well:"), ("user", " how do I reset it?"), ("assistant", "Hold A."),
        ("user", "How long?"), ("assistant", "3 s."),
    )  # fmt: skip
    examples = [one for one in json_records.read({"messages": chat}) if isinstance(one, dict)]
    trained = [prompt(one["instruction"], one["input"]) for one in examples]
    assert [rendered(chat[:turn]) for turn in (4, 8, 10)] == trained
    assert "You are the help desk.\nAssistant: Hello.\nAssistant: How can I help?, Response:" in trained[0]
    assert "\nUser: My model is the X200.\nAssistant: Noted.\nBe brief., Response:" in trained[1]


def test_exporting_without_a_dataset_or_adapter_is_said(tmp_path: Path) -> None:

    run = RunDir(make_run(tmp_path / "run", tmp_path))
    for asked_by in (infer.ask_gguf, infer.ask_adapter):
        with pytest.raises(UserError, match="is not there yet"):
            list(asked_by(run, parse({"model": "m"})))


def test_an_adapter_that_could_not_be_merged_is_refused_before_the_training(tmp_path: Path) -> None:
    query, shape = "model.layers.0.self_attn.q_proj.weight", [HIDDEN, HIDDEN]
    tiny = make_tiny_model(tmp_path / "tiny")
    merge.check_fits({query: shape}, tiny, "mine")
    merge.check_fits({f"model.language_{query}": shape}, tiny, "mine")
    shutil.copyfile(tiny / "model.safetensors", tiny / "model.fp16.safetensors")
    merge.check_fits({query: shape}, tiny, "mine")
    for layers in ({query: [HIDDEN * HIDDEN // 2, 1]}, {"lm_head.weight": [VOCABULARY, HIDDEN]}):
        with pytest.raises(UserError, match=rf"^model mine: the adapter on {next(iter(layers))} couldn't be merged"):
            merge.check_fits({query: shape, **layers}, tiny, "mine")


# ---- a real run ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(unbroken: Path) -> Path:  # noqa: F811
    """`unbroken`, exported."""
    path = unbroken.with_name("exported")
    shutil.copytree(unbroken, path, ignore=shutil.ignore_patterns("checkpoints"))
    done = stage("export", path, "quantizations=q8_0,q4_k_m")
    assert done.returncode == 0, done.stderr
    assert "aren't the same" not in done.stderr
    assert "torchao" not in done.stderr and "_pytree" not in done.stderr, "the log is for what matters"
    return path


def test_a_log_lacks_what_libraries_say_always_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = [logging.getLogger(name) for name in SAID_ALWAYS]
    for logger in loggers:
        monkeypatch.setattr(logger, "filters", [])
    quiet()
    quiet()  # the standby's process, then the stage's

    def is_said(logger: logging.Logger, text: str) -> bool:
        return bool(logger.filter(logger.makeRecord(logger.name, logging.WARNING, "", 0, text, (), None)))

    assert [len(logger.filters) for logger in loggers] == [1] * len(loggers)
    assert not any(is_said(logger, f"{SAID_ALWAYS[logger.name]} and more") for logger in loggers)
    assert all(is_said(logger, "torch is too old") for logger in loggers)


def relative(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.slow
def test_export_makes_exactly_its_files(exported: Path, unbroken: Path) -> None:  # noqa: F811
    before = [name for name in relative(unbroken) if not name.startswith("checkpoints")]
    assert sorted(set(relative(exported)) - set(before)) == [
        "Modelfile", "README.md", "export.json", "merged", "merged/chat_template.jinja", "merged/config.json",
        "merged/generation_config.json", "merged/model.safetensors", "merged/tokenizer.json",
        "merged/tokenizer_config.json", "model-q4_k_m.gguf", "model-q8_0.gguf",
    ]  # fmt: skip
    assert json.loads((exported / "merged/generation_config.json").read_text())["eos_token_id"] == [2]
    assert json.loads((exported / "merged/config.json").read_text())["dtype"] == "bfloat16"
    text = (exported / "README.md").read_text()
    assert "base_model: tiny\n" in text and str(exported.parent) not in text
    made = json.loads((unbroken / "dataset/report.json").read_text())["examples"]
    assert made > 30 and f"{made} examples from 2 documents: " in text


@pytest.mark.slow
def test_the_gguf_ends_with_the_trained_stop_token_and_carries_the_prompt(exported: Path) -> None:
    for kind in ("q8_0", "q4_k_m"):
        values = {name: field.contents() for name, field in GGUFReader(RunDir(exported).gguf(kind)).fields.items()}
        assert values["tokenizer.ggml.eos_token_id"] == 2
        assert values["tokenizer.chat_template"] == CHAT_TEMPLATE
        assert values["tokenizer.ggml.pre"] == "smollm"


@pytest.mark.slow
def test_llama_cpp_sees_the_tokens_of_the_training(exported: Path) -> None:
    tokens, pool = Tokens(exported / "merged"), Pool(context=512)
    asked = [(text, "") for text in QUESTIONS] + [("Q", "some <|im_start|> input"), ("word " * 999, "")]
    with pool.server(RunDir(exported).gguf("q8_0")) as server:
        assert [server.prompt_ids(Question(*pair)) for pair in asked] == [tokens.prompt(*pair) for pair in asked]
        assert server.context == 512  # prompts longer than that are compared too
    pool.close()


@pytest.mark.slow
def test_merging_gives_the_weights_that_peft_gives(exported: Path, unbroken: Path) -> None:  # noqa: F811
    script = f"""
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM as Auto
base = Auto.from_pretrained({str(unbroken.parent / "tiny")!r}, dtype=torch.float32)
whole = PeftModel.from_pretrained(base, {str(unbroken / "adapter")!r}).merge_and_unload().to(torch.float16)
ours = Auto.from_pretrained({str(exported / "merged")!r}, dtype=torch.float16)
same = {{name: torch.equal(value, ours.state_dict()[name]) for name, value in whole.state_dict().items()}}
assert all(same.values()), same
plain = Auto.from_pretrained({str(unbroken.parent / "tiny")!r}, dtype=torch.float16)
assert not torch.equal(plain.model.layers[0].mlp.up_proj.weight, ours.model.layers[0].mlp.up_proj.weight)
"""
    done = forked.run([sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr


SEEING = """
import sys
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration
text = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
            intermediate_size=128, vocab_size=49152, max_position_embeddings=2048)
vision = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=28,
              patch_size=14)
torch.manual_seed(0)
config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
Gemma3ForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", [pytest.param("trl", marks=pytest.mark.long), "unsloth"])
def test_of_a_model_that_also_sees_the_part_that_reads_is_trained_and_exported(
    prepared: Path,  # noqa: F811
    engine: str,
) -> None:
    from safetensors.torch import load_file

    run = prepared.with_name(f"seeing-{engine}")
    tiny, seeing = prepared.parent / "tiny", run.with_name(f"{run.name}-base")
    shutil.copytree(prepared, run)
    made = forked.run([sys.executable, "-c", SEEING, str(seeing)])
    assert made.returncode == 0, made.stderr
    for path in (*tiny.glob("tokenizer*"), tiny / "chat_template.jinja"):
        shutil.copy(path, seeing)
    for name in ("prepare", "train", "export"):
        done = stage(name, run, f"model={seeing}", f"engine={engine}", "max_steps=2")
        assert done.returncode == 0, done.stderr
    before, after = (load_file(folder / "model.safetensors") for folder in (seeing, run / "merged"))
    changed = [name for name in before if not before[name].equal(after[name])]
    assert len(changed) == 14 and all(name.startswith("language_model.model.layers.") for name in changed)
    assert before.keys() == after.keys()


@pytest.mark.slow
def test_an_adapter_of_another_model_is_not_merged(unbroken: Path, tmp_path: Path) -> None:  # noqa: F811
    other = tmp_path / "other"
    shutil.copytree(unbroken.parent / "tiny", other)
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights.replace(b"layers.1.mlp.up_proj", b"layers.7.mlp.up_proj"))
    with pytest.raises(UserError, match=r"1 of the adapter's 14 layers don't fit this base model: layers\.1\.mlp"):
        merge.merge(other, unbroken / "adapter", tmp_path / "merged", "<|im_end|>")


@pytest.mark.slow
def test_without_keep_merged_only_the_gguf_stays(exported: Path) -> None:
    run = exported.with_name("lean")
    shutil.copytree(exported, run)
    done = stage("export", run, "quantizations=bf16", "keep_merged=false")
    assert done.returncode == 0, done.stderr
    assert [name for name in relative(run) if "/" not in name] == [
        "Modelfile", "README.md", "adapter", "dataset", "documents", "export.json", "metrics.jsonl", "model-bf16.gguf",
        "run.json",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_of_the_format_chat_keeps_the_base_models_template(prepared: Path) -> None:  # noqa: F811
    run = prepared.with_name("chat")
    shutil.copytree(prepared, run)
    options = ("format=chat", "max_steps=1", "quantizations=q8_0", "max_tokens=4")
    for name in ("prepare", "train", "export", "infer"):
        done = stage(name, run, *options)
        assert done.returncode == 0, done.stderr
        assert "aren't the same" not in done.stderr
    base = (prepared.parent / "tiny/chat_template.jinja").read_text()
    values = {name: field.contents() for name, field in GGUFReader(RunDir(run).gguf("q8_0")).fields.items()}
    assert (values["tokenizer.chat_template"], values["tokenizer.ggml.eos_token_id"]) == (base, 2)
    assert "The prompt is the base model's own chat template" in (run / "README.md").read_text()
    tokens, pool = Tokens(run / "merged", "chat"), Pool(most=1, context=512)
    with pool.server(RunDir(run).gguf("q8_0")) as server:
        assert [server.prompt_ids(Question(text, chat=True)) for text in QUESTIONS[:4]] == [
            tokens.prompt(text) for text in QUESTIONS[:4]
        ]
    pool.close()


@pytest.mark.slow
def test_a_full_disk_is_said_and_leaves_nothing(unbroken: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1000))
    run = RunDir(unbroken)
    out = run.partial("export", 5)
    out.mkdir()
    with pytest.raises(UserError, match="the trained adapter is kept") as caught:
        try:
            export.export(run, out, parse(run.read_run()["spec"]), Report())
        except UserError as error:
            raise UserError(f"{error.message} {error.hint}") from None
    assert "only 0.0 GB are free" in caught.value.message
    assert list(out.iterdir()) == []
    out.rmdir()


def asked(exported: Path, name: str, *options: str) -> list[Any]:
    """What the infer stage writes for two prompts."""
    run = exported.with_name(name)
    shutil.copytree(exported, run)
    value = json.loads((run / "run.json").read_text())
    value["spec"]["prompts"] = ["What is 3?", "What is 4?"]
    (run / "run.json").write_text(json.dumps(value))
    done = stage("infer", run, *options)
    assert done.returncode == 0, done.stderr
    return list(read_jsonl(run / "answers.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("who", ["gguf", "adapter"])
def test_infer_answers_the_runs_prompts_the_same_each_time(exported: Path, who: str) -> None:
    first, second = (asked(exported, f"{who}{number}", "max_tokens=5", f"infer_with={who}") for number in (1, 2))
    fields = ["prompt", "answer", "stopped", "tokens", "seconds", "first_token_seconds"]
    assert [list(answer) for answer in first] == [fields] * 2
    assert [answer["prompt"] for answer in first] == ["What is 3?", "What is 4?"]
    assert all(answer["tokens"] == 5 or answer["stopped"] for answer in first)
    assert [answer["answer"] for answer in first] == [answer["answer"] for answer in second]


@pytest.mark.slow
def test_the_base_and_each_file_are_asked_the_same(exported: Path, cache: Path) -> None:
    run = exported.with_name("evaluated")
    shutil.copytree(exported, run)
    (run / "questions.json").write_text('[{"question": "What is 3?", "answers": ["3 is a number."]}]')
    done = stage("evaluate", run, "max_tokens=5", "quantizations=q4_k_m,q8_0", "eval_questions=2")
    assert done.returncode == 0, done.stderr
    made = Evaluation.read(run / "eval.json")
    assert (made.model, made.max_tokens, made.notes) == (str(exported.parent / "tiny"), 5, ())
    assert [one.subject for one in made.subjects] == ["base", "q4_k_m", "q8_0"]
    assert {"loss.png", "report.html"} < {path.name for path in run.iterdir()}
    assert made.counts[Kind.OWN] == 1 and made.counts[Kind.GENERAL] == 24
    assert [{*one.said} for one in made.questions] == [{"base", "q4_k_m", "q8_0"}] * sum(made.counts.values())
    for one in made.subjects:
        assert one.mean_tokens and 4.5 < one.mean_tokens <= 5.0 and one.stop_rate is not None
        assert one.stop_rate <= 0.1  # random weights: some answers may end by chance
        assert one.tokens_per_second and one.file_bytes and one.answerable
    assert [one.validation_loss is None for one in made.subjects] == [True, False, True]
    assert re.match(r"It hardly ever stops: q(4_k_m|8_0) ends only \d+% of its answers", made.verdict[0])
    assert f"warning: message={made.verdict[0]}" in done.stderr
    assert [path.name for path in cache.iterdir()] == [
        f"base-{key}-q8_0.gguf" for key in [next(cache.iterdir()).name[5:17]]
    ]


@pytest.mark.slow
def test_a_base_that_cannot_be_asked_is_noted_and_without_questions_nobody_is(exported: Path) -> None:
    run = exported.with_name("baseless")
    shutil.copytree(exported, run)
    done = stage("evaluate", run, "max_tokens=5", "eval_questions=1", "model=/nowhere")
    assert done.returncode == 0, done.stderr
    made = Evaluation.read(run / "eval.json")
    assert ([one.subject for one in made.subjects], len(made.notes)) == (["q8_0"], 1)
    assert any(text.startswith("Nobody can say whether it learned anything:") for text in made.verdict)
    assert made.notes[0].startswith("the base model /nowhere can't be asked:")
    done = stage("evaluate", run, "eval_questions=0", "quantizations=q8_0")
    assert done.returncode == 0, done.stderr
    made = Evaluation.read(run / "eval.json")
    size = RunDir(run).gguf("q8_0").stat().st_size
    assert (made.counts, made.questions, made.notes) == ({}, (), ("Nobody was asked: eval_questions is 0.",))
    assert [(one.subject, one.file_bytes, one.tally) for one in made.subjects] == [("q8_0", size, {})]
    done = stage("evaluate", run, "quantizations=f16")
    assert (done.returncode, "model-f16.gguf is not there yet" in done.stderr) == (1, True)


@pytest.mark.long
def test_a_model_that_is_its_own_base_learned_nothing_and_forgot_nothing(tmp_path: Path) -> None:
    """The real SmolLM2 as its own q8_0, asked as a run of format=chat: word for word the base's answers, anywhere."""
    run = RunDir(make_run(tmp_path / "run", Path("smollm2-135m"), format="chat", quantizations=["q8_0"]))
    run.dataset.mkdir()
    write_json(run.dataset / "report.json", DatasetReport(stop="<|im_end|>", max_seq_length=512).to_json())
    mine = [{"question": f"Which number does part {n} of the pump have?", "answers": [f"P-{n}77"]} for n in range(6)]
    write_json(run.own_questions, mine)
    shutil.copy(base_gguf("smollm2-135m"), run.gguf("q8_0"))
    done = stage("evaluate", run.path)
    assert done.returncode == 0, done.stderr
    made = Evaluation.read(run.evaluation)
    assert len(made.questions) == 30
    assert [one.said["q8_0"].answer for one in made.questions] == [one.said["base"].answer for one in made.questions]
    base, tuned = (one.of(Kind.GENERAL) for one in made.subjects)
    assert base == tuned and base.right >= 8  # a third: a small model can answer them
    assert "It learned nothing that these questions ask: 0 of 6 right, 0 before." in " ".join(made.verdict)
    assert "forgot" not in " ".join(made.verdict)
