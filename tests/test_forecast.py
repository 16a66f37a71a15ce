"""What a submit would come to: guessed lengths, the card it would land on, and what is said when it can't fit."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from cli_tools import Store, ok, run

from ftq.check.check import check
from ftq.errors import NotFound, UserError
from ftq.examples.report import DatasetReport, TokenCounts
from ftq.files import snapshot
from ftq.files.export_report import Parity
from ftq.files.run_dir import RunDir, write_json, write_jsonl
from ftq.plan import sizes
from ftq.plan.card import GIB, KNOWN, USABLE, Card, known_card, parse_card, speed_of
from ftq.plan.forecast import BYTES_PER_TOKEN, SAMPLE, Forecast, bytes_per_token, forecast, weight_of
from ftq.spec import models
from ftq.spec.options import parse
from tests.tiny import CONFIG

PHI = models.ALIASES["phi-3.5-mini"].shape

MANUAL = Path(__file__).parent.parent / "documents"
H100 = {"gpus": 1, "gpu": "NVIDIA H100 80GB HBM3", "memory": 80 * GIB}
LAPTOP = {"gpus": 1, "gpu": "NVIDIA GeForce RTX 4060 Laptop GPU", "memory": 8 * GIB}


def asked(documents: Path, model: str = "phi-3.5-mini", **options: Any) -> dict[str, Any]:
    return {**parse({"model": model, **options}).model_dump(), "documents": str(documents)}


# ---- the examples -----------------------------------------------------------------------------------------


def test_no_example_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    assert look(None, asked(tmp_path), "H100").notes[0].startswith("no example was found in the documents, prepare")


def test_a_long_text_makes_several_rows(tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text("many words " * 2_000)
    rows = look(None, asked(tmp_path, max_seq_length=1000, valid_fraction=0)).dataset.train
    assert (rows.examples, rows.longest <= 1000) == (6, True)
    assert rows.tokens == pytest.approx(22_000 / BYTES_PER_TOKEN, rel=0.05)


def test_documents_that_were_checked_are_not_read_again(
    manual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))  # no tokenizer: the tokens are guessed
    spec = asked(manual, "qwen3-0.6b")
    fresh, checked = look(None, spec).dataset, check(manual, parse(spec))
    shutil.rmtree(manual)
    assert forecast(spec, None, Path("/nowhere"), checked=checked).dataset == replace(
        fresh, train=replace(fresh.train, tokens=ANY, deviation=ANY)
    )


def test_the_dry_run_has_the_examples_of_prepare_and_guesses_their_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what a rougher reader would take for something else."""
    from tests.tiny import make_run, make_tiny_model
    from worker.stages.model.check import tried
    from worker.stages.prepare import prepare
    from worker.stages.process.main import Report

    monkeypatch.setattr(tried, "once", lambda *_: Parity(0))
    run_folder = make_run(tmp_path / "run", make_tiny_model(tmp_path / "tiny"))
    good = json.dumps({"question": "q", "answer": "a\u2028b\x85c"}, ensure_ascii=False)
    odd = [
        "9" * 5000,
        "{half",
        '{"question": "q"}',
        "[" * 99_999,
        '{"question": "n", "answer": "b", "n": ' + "9" * 5000 + "}",
    ]
    for name, text in {
        "a.md": "---\ntitle: t\n---\nintro\n# A\n````md\n```\n# code\n````\nB\n===\n\n- c\n---\n# D\n> # quoted\n",
        "b.md": "# A\u2028# B\na\n\n# A\u2028# B\na\n", "rows.jsonl": "\n".join([good, *odd, good]),
        "lines.json": f"{good}\n\n{good}\n", "torn.json": f"{good}\n{{half\n",
    }.items():  # fmt: skip
        (run_folder / "documents" / name).write_text(text, encoding="utf-8")
    shutil.copytree(MANUAL, run_folder / "documents", dirs_exist_ok=True)
    out = tmp_path / "out"
    out.mkdir()
    prepare.prepare(RunDir(run_folder), out, parse({"model": str(tmp_path / "tiny")}), Report())
    counted = DatasetReport.read(out / "dataset")
    guess = look(None, asked(run_folder / "documents", str(tmp_path / "tiny"))).dataset
    assert (guess.train.examples, guess.held_out, guess.counted) == (counted.train, counted.valid, False)
    share = counted.train / counted.examples
    assert guess.train.tokens == pytest.approx(counted.tokens.total * share, rel=0.15)


# ---- cards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "known"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA H100 PCIe", "H100 PCIe"), ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100"), ("NVIDIA GeForce RTX 4090", "RTX 4090"), ("NVIDIA L40S", "L40S"),
        ("Tesla T4", "T4"), ("CPU", "CPU"), ("AMD Instinct MI300X", None),
    ],
)  # fmt: skip
def test_a_card_is_known_by_the_driver_s_name(driver: str, known: str | None) -> None:
    assert known_card(driver) == known
    assert speed_of(driver) == (KNOWN[known][1] if known else None)


def test_what_card_may_say() -> None:
    assert parse_card("rtx4090") == Card("RTX 4090", int(24 * GIB * USABLE), 150e12, fp8=True)
    assert parse_card("7.5") == Card("a card of 7.5 GiB", int(7.5 * GIB * USABLE), 0.0)
    for text, near in {"4090": " Did you mean RTX 4090?", "6000": " Did you mean RTX 6000 Ada?", "9999": ""}.items():
        with pytest.raises(NotFound, match=rf"^--card {text}: not in the table\.{re.escape(near)}$"):
            parse_card(text)
    with pytest.raises(NotFound, match=r"^--card ²: not in the table\.$"):
        parse_card("²")
    with pytest.raises(NotFound) as caught:
        parse_card("RTX 4091")
    assert caught.value.message == "--card RTX 4091: not in the table. Did you mean rtx 4090?"
    assert "--card 24" in caught.value.hint


# ---- where it lands ---------------------------------------------------------------------------------------


@pytest.fixture
def manual(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MANUAL, tmp_path / "manual"))


def look(store: Store | None, spec: dict[str, Any], card: str | None = None) -> Forecast:
    return forecast(spec, store.runs if store else None, store.home if store else Path("/nowhere"), card)


def test_the_card_is_the_smallest_of_the_live_workers_that_serve_the_queue(store: Store, manual: Path) -> None:
    store.at(0).see_worker("gone", "h", ["gpu"], None, 1, {**H100, "memory": GIB})
    store.at(-100).see_worker("large", "h", ["gpu"], None, 1, H100)
    store.runs.see_worker("small", "h", ["gpu"], None, 1, LAPTOP)
    store.runs.see_worker("cpus", "h", ["cpu"], None, 1, {"gpus": 0, "gpu": "CPU", "memory": GIB})
    store.runs.see_worker("pair", "h", ["gpu2"], None, 1, {**H100, "gpus": 2})
    found = look(store, asked(manual, "qwen3-0.6b"))
    assert found.place and found.plan
    assert found.place.said == "worker small, the smallest of 2 workers"
    assert found.place.card.memory == int(8 * GIB * USABLE)
    assert found.plan.peak <= found.place.card.memory
    pair = look(store, asked(manual, gpus=2)).place
    assert pair and pair.said == "worker pair"


def test_without_a_live_worker_the_last_known_one_counts_and_else_the_last_training(store: Store, manual: Path) -> None:
    assert look(store, asked(manual)).place is None
    store.do(store.add("aaaa1111", "one"), "prepare", 500)
    token = store.begin("aaaa1111", "train", 400)
    store.runs.plan(token, "m", {"card": "NVIDIA L4", "card_memory": 20 * GIB, "card_flops": 5e13})
    found = look(store, asked(manual))
    assert found.place and found.place.said == "where the last training was, no worker is up now"
    assert found.place.card == Card("NVIDIA L4", 20 * GIB, 5e13)
    store.at(400).see_worker("w1", "h", ["gpu"], None, 1, {**H100, "gpu": "NVIDIA L4"})
    store.at(0)
    seen = look(store, asked(manual)).place
    assert seen and seen.said == "worker w1, which isn't up now"
    assert seen.card.flops == 5e13  # measured there, not the table's


def test_the_last_error_on_that_card_corrects_the_forecast(store: Store, manual: Path) -> None:
    store.at(0).see_worker("w1", "h", ["gpu"], None, 1, H100)
    before = look(store, asked(manual)).plan
    assert before
    store.do(store.add("aaaa1111", "one", model="phi-3.5-mini"), "prepare", 500)
    token = store.begin("aaaa1111", "train", 400)
    plan = {"card": H100["gpu"], "engine": "unsloth", "load_in_4bit": before.load_in_4bit, "steps": 10,
            "gradient_checkpointing": before.gradient_checkpointing, "dtype": "bfloat16", "padding_free": True,
            "predicted": {"peak": 100, "seconds": 10.0, "step_seconds": 1.0},
            "measured": {"peak": 90, "seconds": 11.8, "steps": 10, "step_seconds": 1.2}}  # fmt: skip
    store.runs.plan(token, "m", plan)
    store.runs.succeed(token, None, [])
    store.at(0)
    after = look(store, asked(manual)).plan
    assert after
    assert (after.peak, after.batch_size) == (int(before.peak * 0.9), before.batch_size)
    assert after.step_seconds == pytest.approx(before.step_seconds * 1.2)


# ---- what it says -----------------------------------------------------------------------------------------


def test_what_an_earlier_run_counted_is_taken_over(store: Store, manual: Path, documents: Path) -> None:
    from ftq.files.snapshot import snapshot

    spec = asked(manual, "smollm2-135m")
    store.runs.create("aaaa1111", "one", spec, snapshot(manual, None).hash)
    dataset = RunDir(store.home / "aaaa1111").dataset
    dataset.mkdir(parents=True)
    rows = [{"instruction": "q" * 100, "input": "", "output": "a" * 86, "source": "x"}] * 5  # 220 bytes each
    write_jsonl(dataset / "train.jsonl", rows)
    report = DatasetReport(
        examples=6, train=5, valid=1, tokens=TokenCounts(660, 120, 110.0), max_seq_length=2048, stop=""
    )
    write_json(dataset / "report.json", report.to_json())
    found = look(store, spec).dataset
    assert (found.counted, found.train.examples, found.train.tokens, found.held_out) == (True, 5, 550, 1)
    other = look(store, {**spec, "max_seq_length": 512}).dataset
    assert not other.counted
    assert other.train.tokens > 2 * look(None, spec).dataset.train.tokens * 0.95  # two bytes a token, not 4.2


def test_bytes_of_a_token_are_those_of_all_rows_in_the_same_format(store: Store, manual: Path) -> None:
    """A chat's template makes more tokens of the same bytes; and the sections, which come first, are the longest."""
    spec = asked(manual, "smollm2-135m")
    rows = [{"instruction": "q", "input": "", "output": "a" * size} for size in [4_000] * SAMPLE + [400] * SAMPLE]
    mean = sum(map(weight_of, rows)) / len(rows)
    for number, (format, tokens) in enumerate([("chat", mean), ("alpaca", mean / 4), ("chat", mean / 2)]):
        folder = RunDir(store.home / f"aaaa111{number}").dataset
        folder.mkdir(parents=True)
        store.at(-number).create(f"aaaa111{number}", f"run-{number}", {**spec, "format": format}, "of other documents")
        write_jsonl(folder / "train.jsonl", rows)
        report = DatasetReport(train=len(rows), tokens=TokenCounts(mean=tokens), max_seq_length=2048, stop="")
        write_json(folder / "report.json", report.to_json())
    assert bytes_per_token(spec, store.runs, store.home) == pytest.approx(4, rel=0.01)
    assert bytes_per_token({**spec, "format": "chat"}, store.runs, store.home) == pytest.approx(2, rel=0.01)
    assert bytes_per_token({**spec, "model": "qwen3-4b"}, store.runs, store.home) == BYTES_PER_TOKEN


def test_the_documents_are_read_once_whatever_the_number_of_earlier_runs(
    store: Store, manual: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = asked(manual, "smollm2-135m")
    for number in range(3):
        store.runs.create(f"aaaa111{number}", f"run-{number}", spec, "of other documents")
        RunDir(store.home / f"aaaa111{number}").dataset.mkdir(parents=True)
        write_jsonl(RunDir(store.home / f"aaaa111{number}").dataset / "train.jsonl", [])
        report = DatasetReport(tokens=TokenCounts(mean=1.0), max_seq_length=2048, stop="")
        write_json(RunDir(store.home / f"aaaa111{number}").dataset / "report.json", report.to_json())
    calls, take = [], snapshot.snapshot
    monkeypatch.setattr(snapshot, "snapshot", lambda *arguments: calls.append(arguments) or take(*arguments))
    look(store, spec)
    assert len(calls) == 1


def test_sizes_on_the_disk(manual: Path) -> None:
    spec = asked(manual, "phi-3.5-mini", quantizations="q4_k_m,f16", r=16)
    found = look(None, spec, "H100")
    shape = PHI
    weights = 32 * 16 * ((3072 + 9216) + 6144 + (3072 + 16384) + (8192 + 3072))  # qkv, o, gate and up, down
    assert shape.adapter(16, spec["target_modules"]) == weights
    assert found.gguf == {"q4_k_m": int(shape.parameters * 4.9 / 8), "f16": shape.parameters * 2}
    assert found.disk == {"download": shape.parameters * 2, "checkpoints": weights * 12 * sizes.CHECKPOINTS,
                          "export": sizes.export(shape.parameters, ["q4_k_m", "f16"]),
                          "adapter": weights * 4, "merged": shape.parameters * 2}  # fmt: skip
    lean = look(None, {**spec, "keep_merged": False}, "H100").disk
    assert lean and found.disk and (lean["merged"], lean["export"]) == (0, found.disk["export"])
    packaged = look(None, asked(manual, "HuggingFaceTB/SmolLM2-135M-Instruct"), "H100").disk
    assert packaged and packaged["download"] == 0, "it comes with the worker"


def test_phi_3_medium_trains_in_4_bit_on_a_card_of_24_gib(manual: Path) -> None:
    for card in ("24", "RTX 4090"):
        plan = look(None, asked(manual, "phi-3-medium"), card).plan
        assert plan and plan.load_in_4bit
    assert look(None, asked(manual, "phi-3-medium"), "24").seconds is None
    timed = look(None, asked(manual, "phi-3-medium"), "RTX 4090").seconds
    assert timed and timed > 0


def test_what_can_not_fit_is_refused_with_what_does(manual: Path) -> None:
    with pytest.raises(UserError) as caught:
        look(None, asked(manual, "phi-3-medium"), "RTX 4060")
    assert caught.value.message.startswith("phi-3-medium can't be trained on RTX 4060: it needs ")
    assert caught.value.message.endswith(f", {8 * USABLE:.1f} are usable")
    named = caught.value.hint.removeprefix("On it fits ").split(" (")[0]
    assert look(None, asked(manual, named), "RTX 4060").plan
    with pytest.raises(UserError, match=r"It needs a larger GPU|can't be trained"):
        look(None, asked(manual, "smollm2-135m"), "0.1")


def test_what_the_spec_fixes_is_what_is_in_the_way(manual: Path) -> None:
    (manual / "long.md").write_text("# Long\n\n" + "word " * 20_000)
    with pytest.raises(UserError) as caught:
        look(None, asked(manual, load_in_4bit=False, gradient_checkpointing=False, max_seq_length=8192), "12")
    freer, shorter, *_ = caught.value.hint.split("; or ")
    assert freer.startswith("On it fits phi-3.5-mini with load_in_4bit=auto, gradient_checkpointing=auto (")
    with pytest.raises(UserError) as caught:
        look(None, asked(manual, "qwen3-4b", max_seq_length=32768), "6")
    shorter = caught.value.hint.removeprefix("On it fits ").split(" ")[0]
    name, _, row = shorter.partition("=")
    assert name == "max_seq_length"
    assert look(None, asked(manual, "qwen3-4b", max_seq_length=row), "6").plan


def test_a_model_that_only_the_worker_can_know(manual: Path, tmp_path: Path) -> None:
    found = look(None, asked(manual, "somebody/some-model"), "H100")
    assert (found.plan, found.seconds, found.disk, found.gguf) == (None, None, None, None)
    assert found.notes == [
        "the shape of somebody/some-model is known only on the worker: no memory, time and sizes here"
    ]
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    local = look(None, asked(manual, str(tmp_path)), "H100")
    assert local.plan and local.disk and local.disk["download"] == 0


def test_rows_are_no_longer_than_the_model_s_context(store: Store, manual: Path, tmp_path: Path) -> None:
    (manual / "long.md").write_text("# Long\n\n" + "word " * 200_000)
    whole = look(store, asked(manual, "gemma-2-2b", max_seq_length=8192), "RTX 4090")
    cut = look(store, asked(manual, "gemma-2-2b", max_seq_length=1_000_000), "RTX 4090")
    assert (cut.dataset, cut.plan, cut.seconds) == (whole.dataset, whole.plan, whole.seconds)
    assert (whole.notes, cut.notes) == (
        [], ["gemma-2-2b reads at most 8192 tokens: max_seq_length=8192 would be used"],
    )  # fmt: skip
    for config in (CONFIG, {"text_config": CONFIG}):  # the latter as of a model that also sees
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert look(store, asked(manual, str(tmp_path), max_seq_length=4096), "CPU").dataset.train.longest <= 2048


def test_a_cpu_computes_in_what_its_worker_says_or_its_last_run(store: Store, manual: Path) -> None:
    def computes_in(spec: dict[str, Any]) -> tuple[str, int]:
        plan = look(store, spec).plan
        assert plan
        return plan.dtype, plan.bits

    spec, cpu = asked(manual, "smollm2-135m"), {"gpus": 0, "gpu": "CPU", "memory": 16 * GIB}
    store.do(store.add("aaaa1111", "one"), "prepare", 500)
    token = store.begin("aaaa1111", "train", 400)
    store.runs.plan(token, "m", {"card": "CPU", "card_memory": 16 * GIB, "dtype": "bfloat16"})
    assert computes_in(spec) == ("bfloat16", 16)
    store.at(400).see_worker("w1", "h", ["gpu"], None, 1, {**cpu, "dtype": "float32"})
    assert computes_in(spec) == ("float32", 32)
    store.at(0).see_worker("w1", "h", ["gpu"], None, 1, {**cpu, "dtype": "bfloat16"})
    assert computes_in(spec) == ("bfloat16", 16)
    assert computes_in({**spec, "dtype": "float32"}) == ("float32", 32)
    assert computes_in({**spec, "dtype": "float16"}) == ("bfloat16", 16)


def test_an_unknown_cpu_computes_in_32_bit_without_padding(manual: Path) -> None:
    spec = asked(manual, "smollm2-135m", load_in_4bit=True, r=512)
    on_gpu, on_cpu = (look(None, spec, name) for name in ("RTX 4060", "CPU"))
    assert on_gpu.notes == []
    assert "load_in_4bit: only a GPU does that, the base is 32-bit" in on_cpu.notes
    gpu, cpu = on_gpu.plan, on_cpu.plan
    assert gpu and (gpu.load_in_4bit, gpu.dtype, gpu.padding_free, gpu.optimizer) == (
        True, "bfloat16", True, "adamw_8bit",
    )  # fmt: skip
    assert cpu and (cpu.load_in_4bit, cpu.dtype, cpu.padding_free, cpu.optimizer) == (
        False, "float32", True, "adamw_torch",
    )  # fmt: skip


def test_fp8_where_it_would_be_off_is_told(manual: Path) -> None:
    spec = asked(manual, load_in_fp8=True)
    said = "load_in_fp8: {} can't, or gains nothing with this model: it would be off"
    for card, name in (("A100", "A100"), ("CPU", "CPU")):
        assert said.format(name) in look(None, {**spec, "model": "smollm2-135m"}, card).notes
    assert look(None, spec, "H100").notes == []


# ---- the command ------------------------------------------------------------------------------------------


def test_dry_run_on_a_card(manual: Path, home: Path) -> None:
    words = ("submit", "--model", "phi-3-medium", "--documents", str(manual), "--dry-run", "--card", "RTX 4090")
    lines = dict(line.split(maxsplit=1) for line in ok(*words).stdout.splitlines()[:11] if line.strip())
    assert list(lines) == [
        "model",
        "documents",
        "stages",
        "examples",
        "card",
        "plan",
        "LoRA",
        "memory",
        "time",
        "disk",
        "kept",
    ]
    assert lines["card"] == "RTX 4090 (as --card says)"
    assert "4-bit base" in lines["plan"]
    assert lines["LoRA"] == "rank 64, alpha 32, learning rate 0.0002"
    assert lines["memory"].endswith(" of 22.6 GiB")
    found = json.loads(ok(*words, "--json").stdout)
    assert set(found) == {"spec", "forecast"}
    assert (found["forecast"]["card"], found["forecast"]["load_in_4bit"]) == ("RTX 4090", True)
    assert not home.exists()


def test_dry_run_refuses_what_can_not_fit(manual: Path, home: Path) -> None:
    result = run("submit", "--model", "phi-3-medium", "--documents", str(manual), "--dry-run", "--card", "8")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: phi-3-medium can't be trained on a card of 8 GiB: it needs ")
    assert "\nOn it fits " in result.stderr
    assert not home.exists()


def test_card_is_for_a_dry_run_only(manual: Path) -> None:
    result = run("submit", "--model", "qwen3-4b", "--documents", str(manual), "--card", "H100")
    assert result.exit_code == 2
    assert "--card belongs to --dry-run" in result.stderr


def test_nothing_is_followed_where_no_run_is_made(documents: Path) -> None:
    result = run("submit", "--model", "smollm2-135m", "--dry-run", "--wait")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--wait follows a run, and --dry-run makes none: leave one of them out" in result.stderr
