"""What is broken is refused or told before it is published: adapters, merges, templates, tokenizers, GGUF files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

from ftq import words
from ftq.errors import FtqError
from ftq.files.export_report import Distance, ExportReport, GgufReport, Parity, Step, Stops
from ftq.files.run_dir import RunDir, read_jsonl
from tests import forked
from tests.adapters import write_adapter
from tests.test_train import OPTIONS, stage
from tests.tiny import HIDDEN, make_run, make_tiny_model
from worker.gguf.convert import convert
from worker.gguf.importance import requantize
from worker.gguf.quantize import quantize
from worker.llama import logits
from worker.llama.answer import Question
from worker.llama.logits import Row
from worker.llama.packaged import packaged_gguf
from worker.llama.pool import Pool
from worker.machine import hardware
from worker.stages.export.export import _explained
from worker.stages.export.measure import bounds, checks
from worker.stages.export.measure.measure import Measure
from worker.stages.export.measure.sample import Sample, _Example, tokens_of
from worker.stages.export.measure.steps import Steps
from worker.stages.model.check import parity
from worker.stages.model.tokens import IGNORED, Tokens
from worker.stages.process.main import Report

KINDS = ("f16", "q3_k_m")
QUERY = "base_model.model.model.layers.0.self_attn.q_proj"
FILE = GgufReport("model-q4_k_m.gguf", "q4_k_m", 5, "ab", 2, Stops(20, 7, 20), 3.0, Distance(9, 0.01, 0.9, 1.5))
SAME = Distance(9, 0.0, 1.0, 0.1)
MODEL = ExportReport("</s>", Parity(20), (FILE,), SAME, SAME, ("a note",), (Step("merging", 1.5),))


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(context=512)
    yield made
    made.close()


# ---- words --------------------------------------------------------------------------------------------------


def test_the_report_reads_what_it_writes_and_leaves_later_keys_aside() -> None:
    value = json.loads(json.dumps(MODEL.to_json()))
    assert value["ggufs"][0]["stops"] == {"questions": 20, "held_out": 7, "stopped": 20, "rate": 1.0}
    value["later"] = value["ggufs"][0]["later"] = value["merge"]["later"] = 1
    assert ExportReport.from_json(value) == MODEL


def test_a_file_within_its_bounds_is_no_news_and_one_beyond_is_told_with_what_to_do() -> None:
    assert bounds.notes(FILE, 2.9) == []
    far = replace(FILE, against_f16=Distance(9, 1.5, 0.5, 9.0))
    assert bounds.notes(far, 2.9) == [
        "model-q4_k_m.gguf is further from f16 than q4_k_m should be: a KL of 1.500 (at most 0.25), 1.03 times its "
        "perplexity (at most 3.81), the same next token at 50%. Submit the run again with a larger --quant, or with "
        "--set imatrix=true: only the export is computed anew."
    ]
    [note] = bounds.notes(FILE, 1.0)
    assert "3.00 times its perplexity (at most 1.32)" in note
    few, many = (replace(FILE, against_f16=Distance(count, 0.18, 0.8, 3.0)) for count in (21, 256))
    assert bounds.notes(few, 3.0) == [] and "a KL of 0.180 (at most 0.17)" in bounds.notes(many, 3.0)[0]


# (KL of merged or converted, its top-1, KL of the base alone): healthy on a small model, told, broken
MERGES = [
    (0.007, 0.95, 0.4, "fine"), (0.047, 0.9, 1.2, "told"), (0.09, 0.85, 0.1, "told"), (0.3, 0.8, 4.0, "told"),
    (1.2, 0.4, 1.2, "broken"), (0.3, 0.8, 0.31, "broken"), (0.9, 0.6, 9.0, "broken"), (float("nan"), 0, 1, "broken"),
]  # fmt: skip
CONVERSIONS = [(0.0001, 1.0, "fine"), (0.019, 0.4, "fine"), (0.047, 0.93, "told"), (0.4, 0.6, "told"),
               (0.6, 0.9, "broken"), (0.05, 0.02, "broken"), (float("nan"), 0, "broken")]  # fmt: skip


def test_rounding_is_told_and_only_a_model_that_computes_something_else_is_refused() -> None:
    def judged(distance: Distance, is_broken: bool) -> str:
        if is_broken:
            return "broken"
        return "told" if bounds.rounded("the merged model", "base and adapter", distance, bounds.MERGED_KL) else "fine"

    for kl, top1, alone, expected in MERGES:
        distance = Distance(99, kl, top1, 1.0)
        assert judged(distance, bounds.is_no_merge(distance, Distance(99, alone, 0.5, 9.0))) == expected, (kl, alone)
    for kl, top1, expected in CONVERSIONS:
        distance = Distance(99, kl, top1, 1.0)
        assert judged(distance, bounds.is_misread(distance)) == expected, (kl, top1)
    assert bounds.rounded("the merged model", "base and adapter", Distance(99, 0.047, 0.93, 1.0), 0.02) == [
        "the merged model answers a little otherwise than base and adapter: a KL of 0.047 (usually below 0.02), the "
        "same next token at 93% of 99 positions. It is the rounding to 16 bits, to which this model is sensitive. The "
        "file can be used; a lower learning_rate or more steps make that smaller."
    ]


HEALTHY = {  # SmolLM2-135M untuned, after 2 steps and after 6: (KL, share of f16's perplexity), measured on 99, 99, 21
    "q8_0": ((0.004, 1.01), (0.003, 1.00), (0.005, 1.01)),
    "q6_k": ((0.011, 1.01), (0.008, 1.00), (0.012, 1.04)),
    "q5_k_m": ((0.059, 1.06), (0.062, 1.09), (0.236, 1.46)),
    "q5_k_s": ((0.074, 1.07), (0.073, 1.20), (0.318, 1.50)),
    "q4_k_m": ((0.040, 0.99), (0.036, 1.02), (0.085, 1.16)),
    "q4_k_s": ((0.058, 0.98), (0.048, 1.10), (0.128, 1.23)),
    "q3_k_l": ((0.130, 1.11), (0.131, 1.30), (0.215, 1.35)),
    "q3_k_m": ((0.122, 1.04), (0.099, 1.23), (0.179, 1.33)),
    "q2_k": ((0.395, 1.23), (0.390, 1.35), (0.561, 1.57)),
}


def test_no_bound_blames_a_healthy_model() -> None:
    for kind, measured in HEALTHY.items():
        for (kl, share), positions in zip(measured, (99, 99, 21), strict=True):
            distance = Distance(positions, kl, 0.8, 3.0)
            assert bounds.notes(replace(FILE, type=kind, perplexity=3.0 * share, against_f16=distance), 3.0) == [], kind


def test_every_quantised_type_has_bounds() -> None:
    from ftq.spec.options import QUANTIZATIONS

    assert {"f16", *bounds.BOUNDS} == set(QUANTIZATIONS)


@pytest.mark.parametrize(("stopped", "told"), [(20, False), (19, False), (18, True), (0, True)])
def test_a_model_that_does_not_stop_is_told(stopped: int, told: bool) -> None:
    notes = bounds.notes(replace(FILE, stops=Stops(20, 7, stopped)), 2.9)
    assert bool(notes) == told
    if told:
        assert f"ended {stopped} of 20 answers itself" in notes[0] and "higher learning_rate" in notes[0]


class Told(Report):
    """Keeps what a stage tells."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = list[str]()

    def event(self, kind: str, message: str, **data: Any) -> None:
        self.lines.append(f"{kind}: {message}")


def test_a_model_larger_than_the_memory_is_not_measured_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/model.safetensors").write_bytes(b"12345678")
    monkeypatch.setattr(hardware, "machine_memory", lambda: 9)
    told = Told()
    measure = Measure(
        Sample([Row([1, 2], 1)], [], 0), Tokens(make_tiny_model(tmp_path / "tiny")), "</s>", told, tmp_path, Steps(told)
    )
    measure.merged(tmp_path / "tiny", tmp_path / "adapter", tmp_path / "merged")
    assert told.lines == ["warning: merged isn't measured: it has 0.0 GB, this machine 0.0"]


def test_a_step_is_shown_while_it_is_done_and_its_seconds_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    shown = list[tuple[float, str | None]]()

    class Shown(Report):
        def progress(self, percent: float, *, doing: str | None = None, **values: Any) -> None:
            shown.append((percent, doing))

    steps = Steps(Shown())
    steps.reached(15)
    with steps.step("merging"):
        pass
    with pytest.raises(FtqError), steps.step("converting to f16"):
        raise FtqError("broken")
    assert shown == [(15, None), (15, "merging"), (15, "converting to f16")]
    assert [step.name for step in steps.taken] == ["merging"]
    assert re.fullmatch(r"\d+\.\d s: merging\n", capsys.readouterr().out)
    assert words.numbers({"percent": 15, "doing": "merging"}) == "merging"


def test_a_large_model_is_scored_on_fewer_tokens_and_may_write_fewer() -> None:
    million = 10**6
    assert [tokens_of(n * million) for n in (3, 135, 1000, 1500, 2700, 3800, 70_000)] == [
        256,
        256,
        256,
        170,
        96,
        96,
        96,
    ]
    example = _Example("q", "", [0] * 30, 10, "")
    asked = [example.question(False, n * million).max_tokens for n in (135, 1000, 3800)]
    assert asked == [46, 46, 33] and example.answer == 20


# ---- adapters -----------------------------------------------------------------------------------------------


def broken(**changes: Any) -> dict[str, Any]:
    return {f"{QUERY}.lora_{half}.weight": value for half, value in changes.items()}


NAN = np.full((HIDDEN, 4), np.nan, dtype="f4")
BROKEN: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (broken(B=NAN), {}, r"q_proj\.lora_B\.weight holds numbers that are none \(NaN or infinity\)"),
    (broken(A=np.full((4, HIDDEN), np.inf, dtype="f4")), {}, r"q_proj\.lora_A\.weight holds numbers that are none"),
    (broken(A=None), {}, r"layers\.0\.self_attn\.q_proj\.weight has only one of its two LoRA weights"),
    (broken(A=np.ones((5, HIDDEN), dtype="f4")), {}, r"shapes \[64, 4\] x \[5, 64\], its config a rank of 4"),
    (broken(B=np.ones((HIDDEN + 1, 4), dtype="f4")), {}, r"1 of the adapter's 14 layers don't fit this base model: "
     r"layers\.0\.self_attn\.q_proj\.weight has the shape \[64, 64\], the adapter's \[65, 64\]"),
    ({"base_model.model.model.layers.7.mlp.up_proj.lora_A.weight": np.ones((4, 64), dtype="f4"),
      "base_model.model.model.layers.7.mlp.up_proj.lora_B.weight": np.ones((128, 4), dtype="f4")}, {},
     r"1 of the adapter's 15 layers don't fit .* layers\.7\.mlp\.up_proj\.weight has the shape of no weight here"),
    ({"base_model.model.lm_head.modules_to_save.weight": np.ones((4, 64), dtype="f4")}, {}, "is not a LoRA weight"),
    ({}, {"use_dora": True}, r"is no plain LoRA adapter \(use_dora\)"),
]  # fmt: skip


@pytest.mark.slow
def test_a_broken_adapter_is_refused_with_what_is_wrong_in_it(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "tiny")
    for number, (changes, config, _) in enumerate(BROKEN):
        write_adapter(tmp_path / f"adapter-{number}", config=config, **changes)
    write_adapter(tmp_path / "adapter-zeros", scale=0.0)
    cut = write_adapter(tmp_path / "adapter-cut") / "adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-7])
    script = f"""
import json, shutil
from pathlib import Path
from ftq.errors import UserError
from worker.stages.model.merge import merge
home = Path({str(tmp_path)!r})
def said(name):
    try:
        return merge(home / "tiny", home / name, home / f"merged-{{name}}", "<|im_end|>")
    except UserError as error:
        return error.message
print(json.dumps([said(f"adapter-{{n}}") for n in [*range({len(BROKEN)}), "zeros", "cut"]]))
"""
    done = forked.run([sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr
    *refused, zeros, torn = json.loads(done.stdout.splitlines()[-1])
    for said, (_, _, expected) in zip(refused, BROKEN, strict=True):
        assert re.search(expected, str(said)), said
    assert zeros == 0
    assert "not a whole safetensors file" in torn
    assert sorted(path.name for path in tmp_path.glob("merged-*")) == ["merged-adapter-zeros"]


# ---- merging --------------------------------------------------------------------------------------------------

SHAPES = """
import json, shutil, sys
from pathlib import Path
import numpy as np, torch
from safetensors.torch import load_file, save_file
from ftq.errors import FtqError
from worker.llama.logits import Row
from worker.stages.export.measure import agreement
from ftq.spec import weights
from worker.stages.model.merge import merge
home = Path(sys.argv[1])
rows = [Row([1, 100, 200, 300, 400, 500, 2], 3), Row([1, 9, 8, 7, 2], 2)]
def variant(name, pad=0, untied=False, shards=1, dtype=torch.float32, tokens=(), huge=False):
    folder = home / name
    shutil.copytree(home / "tiny", folder)
    weights = {key: value.to(dtype) for key, value in load_file(folder / "model.safetensors").items()}
    config = json.loads((folder / "config.json").read_text())
    if huge:
        weights["model.layers.0.self_attn.q_proj.weight"][0, 0] = 70000.0
    if pad:
        more = torch.zeros(pad, 64, dtype=dtype)
        weights["model.embed_tokens.weight"] = torch.cat([weights["model.embed_tokens.weight"], more])
        config["vocab_size"] += pad
    if untied:
        torch.manual_seed(0)
        weights["lm_head.weight"] = torch.randn(config["vocab_size"], 64).to(dtype) * 0.05
        config["tie_word_embeddings"] = False
    if tokens:
        path = folder / "tokenizer.json"
        from tokenizers import AddedToken, Tokenizer
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.add_tokens([AddedToken(token) for token in tokens])
        tokenizer.save(str(path))
    config["dtype"] = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        names = sorted(weights)
        places = {name: f"model-{1 + i * shards // len(names):05}-of-{shards:05}.safetensors"
                  for i, name in enumerate(names)}
        for place in set(places.values()):
            part = {name: weights[name] for name in names if places[name] == place}
            save_file(part, folder / place, metadata={"format": "pt"})
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder
made = {}
for name, how in json.loads(sys.argv[2]).items():
    how["dtype"] = getattr(torch, how.get("dtype", "float32"))
    folder = variant(name, **how)
    merge(folder, home / "adapter", home / f"{name}-merged", "<|im_end|>")
    made[f"{name} holds"] = sorted({w.dtype for w in weights.read(home / f"{name}-merged").values()})
    distance = agreement.check(folder, home / "adapter", home / f"{name}-merged", rows, home / f"{name}.npy")
    made[name] = [distance.kl, distance.top1, distance.largest]
try:
    agreement.check(home / "tiny", home / "adapter", home / "tiny", rows, home / "unmerged.npy")
except FtqError as error:
    made["refused"] = [error.kind, error.message]
print(json.dumps(made))
"""
VARIANTS: dict[str, dict[str, Any]] = {
    "tied-and-in-shards": {"shards": 3, "dtype": "bfloat16", "pad": 64},
    "too-large-for-float16": {"dtype": "bfloat16", "huge": True},
    "untied-with-added-tokens": {"untied": True, "dtype": "float16", "pad": 8, "tokens": ["<|extra|>", "<|more|>"]},
}


@pytest.mark.slow
def test_a_merged_model_says_what_base_and_adapter_say_and_so_does_its_gguf(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "tiny")
    write_adapter(tmp_path / "adapter")
    done = forked.run([sys.executable, "-c", SHAPES, str(tmp_path), json.dumps(VARIANTS)])
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    kind, refused = made.pop("refused")
    assert "the merged model doesn't say what base and adapter say: a KL of" in refused and kind == "user"
    # float16 keeps of a bfloat16 model's update what bfloat16 would round away; what isn't changed stays as it is
    assert made.pop("tied-and-in-shards holds") == ["BF16", "F16"]
    assert made.pop("untied-with-added-tokens holds") == ["F16"]
    assert made.pop("too-large-for-float16 holds") == ["BF16"] and made.pop("too-large-for-float16")[0] < 0.02
    assert all(kl < 1e-4 and largest < 0.1 for kl, _, largest in made.values()), made
    rows = [Row([1, 100, 200, 300, 400, 500, 2], 3), Row([1, 9, 8, 7, 2], 2)]
    for name in made:
        file = tmp_path / f"{name}.gguf"
        convert(tmp_path / f"{name}-merged", file, "f16")
        distance = logits.score(file, rows, reference=tmp_path / f"{name}.npy").distance
        assert distance and distance.positions == 7 and distance.kl < 1e-4, (name, distance)


@pytest.mark.slow
def test_merging_needs_no_more_memory_than_a_few_of_the_weights(tmp_path: Path) -> None:
    """400 MB of zeros in one shard, most of them a hole in the file."""
    make_tiny_model(tmp_path / "tiny")
    write_adapter(tmp_path / "adapter")
    script = f"""
import json, struct
from pathlib import Path
import torch
from ftq.spec import weights
from worker.stages.model.merge import merge
home = Path({str(tmp_path)!r})
path = home / "tiny/model.safetensors"
header, _ = weights.read_header(path)
end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
with path.open("r+b") as file:
    old = struct.unpack("<Q", file.read(8))[0]
    data = file.seek(8 + old) and file.read()
    header["model.more.weight"] = {{"dtype": "BF16", "shape": [20000, 10000], "data_offsets": [end, end + 400_000_000]}}
    text = json.dumps(header).encode()
    file.seek(0)
    file.write(struct.pack("<Q", len(text)) + text + data)
    file.truncate(8 + len(text) + end + 400_000_000)
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = peak()
merge(home / "tiny", home / "adapter", home / "merged", "<|im_end|>")
print((peak() - before) // 1024, (home / "merged/model.safetensors").stat().st_size)
"""
    done = forked.run([sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr
    grown, size = map(int, done.stdout.split())
    assert size > 400_000_000
    assert grown < 150, f"{grown} MiB"


# ---- one model, exported and then damaged ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a hand-made adapter, exported as f16 and by importance as q3_k_m, the adapter alone too."""
    folder = tmp_path_factory.mktemp("checks")
    options = {**OPTIONS, "quantizations": list(KINDS), "imatrix": True, "lora_gguf": True}
    path = make_run(folder / "run", make_tiny_model(folder / "tiny"), **options)
    rows = [{"question": f"What is {n}?", "answer": f"It is {n}, and then {n + 1}."} for n in range(30)]
    (path / "documents/faq.json").write_text(json.dumps(rows))
    write_adapter(path / "adapter")
    (path / "metrics.jsonl").touch()
    for name in ("prepare", "export"):
        done = stage(name, path)
        assert done.returncode == 0, done.stderr
    assert "isn't measured" not in done.stderr and "aren't the same" not in done.stderr
    return path


@pytest.mark.slow
def test_an_export_says_what_it_measured(exported: Path) -> None:
    report = ExportReport.read(exported)
    assert report.stop == "<|im_end|>" and report.notes == ()
    assert report.parity == Parity(28)
    assert report.merge and report.merge.kl < 1e-3 and report.merge.positions > 50
    assert report.conversion and report.conversion.kl < 1e-3
    assert {step.name for step in report.steps} == {
        "merging", "comparing the merged model with base and adapter", "converting to f16", "converting the adapter",
        "comparing model-f16.gguf with the merged model", "collecting what matters", "quantising to q3_k_m",
        "comparing prompts", *(f"{what} model-{kind}.gguf" for what in ("loading", "measuring") for kind in KINDS),
        *(f"asking model-{kind}.gguf 20 questions" for kind in KINDS),
    }  # fmt: skip
    assert all(step.seconds > 0 for step in report.steps)
    f16, small = report.ggufs
    assert (f16.type, f16.against_f16, f16.end_of_sequence, f16.importance) == ("f16", None, 2, False)
    assert small.against_f16 and 0 < small.against_f16.kl < 0.05 and small.importance
    assert f16.perplexity and small.perplexity and abs(small.perplexity / f16.perplexity - 1) < 0.05
    held_out = len(list(read_jsonl(exported / "dataset/valid.jsonl")))
    assert [(one.stops.questions, one.stops.held_out) for one in report.ggufs] == [(20, held_out)] * 2
    for one in report.ggufs:
        assert one.stops.stopped <= 1  # random weights: one answer may end by chance
        assert f"ended {one.stops.stopped} of 20 answers itself" in one.notes[0]
    for one in report.ggufs:
        assert (checks.sha256(exported / one.file), (exported / one.file).stat().st_size) == (one.sha256, one.bytes)
    card = (exported / "README.md").read_text()
    assert "| model-q3_k_m.gguf | 5 MB |" in card and f"- {small.notes[0]}" in card


def rows_of(model: Path) -> list[Row]:
    ids, labels = Tokens(model).row({"instruction": "What is 3?", "input": "", "output": "It is 3."}, "<|im_end|>")
    return [Row(ids, labels.count(IGNORED))]


@pytest.mark.slow
def test_a_gguf_that_is_cut_off_or_damaged_is_refused(exported: Path, tmp_path: Path, pool: Pool) -> None:
    file, rows = RunDir(exported).gguf("q3_k_m"), rows_of(exported / "merged")
    whole, cut, damaged = file.read_bytes(), tmp_path / "cut.gguf", tmp_path / "damaged.gguf"
    cut.write_bytes(whole[:-100_000])
    with pytest.raises(logits.Unreadable, match=r"can't compute with cut\.gguf .* Failed to load model"):
        logits.score(cut, rows)
    with pytest.raises(FtqError, match=r"llama\.cpp couldn't load cut\.gguf"), pool.server(cut):
        pass
    tensor = next(one for one in GGUFReader(file).tensors if one.name == "blk.1.ffn_down.weight")
    start = int(tensor.data_offset)
    damaged.write_bytes(whole[:start] + b"\xff" * int(tensor.n_bytes) + whole[start + int(tensor.n_bytes) :])
    with pytest.raises(FtqError, match=r"damaged\.gguf computes no numbers: its weights are damaged or overflow"):
        logits.score(damaged, rows)


@pytest.mark.parametrize(
    ("losses", "kind"), [([2.3, 8.0, 9.0, 9.9], "user"), ([2.3, 2.0, 1.9, 1.8], "bug"), ([], "bug")]
)
def test_weights_that_are_no_numbers_are_laid_to_a_training_whose_loss_rose(
    tmp_path: Path, losses: list[float], kind: str
) -> None:
    run = RunDir(tmp_path)
    lines = [json.dumps({"step": step, "train_loss": loss}) + "\n" for step, loss in enumerate(losses, 1)]
    run.metrics.write_text("".join(lines))
    with pytest.raises(FtqError) as told, _explained(run, "Lower learning_rate."):
        raise logits.NoNumbers("model-f16.gguf computes no numbers", "The log has all of it.")
    said = "model-f16.gguf computes no numbers"
    rose = f"{said}. The training diverged: its loss rose from 2.300 (step 1) to 9.900 (step 4)"
    assert (told.value.kind, told.value.message) == (kind, rose if kind == "user" else said)
    assert told.value.hint == ("Lower learning_rate." if kind == "user" else "The log has all of it.")


@pytest.mark.slow
def test_files_that_name_another_end_are_refused(exported: Path, tmp_path: Path, pool: Pool) -> None:
    merged, tokens = tmp_path / "merged", Tokens(exported / "merged")
    shutil.copytree(exported / "merged", merged)
    assert checks.ends(merged, tokens, "<|im_end|>") == ["<|im_end|>"]
    for name, key, value in [("config", "eos_token_id", 0), ("generation_config", "eos_token_id", [1, 2]),
                             ("tokenizer_config", "eos_token", "<|im_start|>")]:  # fmt: skip
        before = (merged / f"{name}.json").read_text()
        (merged / f"{name}.json").write_text(json.dumps({**json.loads(before), key: value}))
        with pytest.raises(FtqError, match=rf"trained to end with <\|im_end\|>, but {name}\.json names <\|"):
            checks.ends(merged, tokens, "<|im_end|>")
        (merged / f"{name}.json").write_text(before)
    file, expected = (
        RunDir(exported).gguf("q3_k_m"),
        r"model-q3_k_m.gguf ends answers with <\|im_end\|>, but training taught </s>",
    )
    with pool.server(file) as server, pytest.raises(FtqError, match=expected):
        checks.end_of_sequence(server, file, "</s>")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["template", "tokenizer"])
def test_a_model_that_is_served_other_prompts_is_refused(exported: Path, tmp_path: Path, pool: Pool, what: str) -> None:
    """The template of the merged folder, or the tokenizer that ftq trained with, isn't that of the GGUF."""
    run, merged = RunDir(exported), tmp_path / "merged"
    shutil.copytree(exported / "merged", merged)
    if what == "template":
        (merged / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    else:
        value = json.loads((merged / "tokenizer.json").read_text())
        value["model"]["merges"] = value["model"]["merges"][:1000]
        (merged / "tokenizer.json").write_text(json.dumps(value))
    tokens = Tokens(merged)
    said = pytest.raises(FtqError, match=r"of 28 prompts reach the model otherwise than it was trained: ")
    with pool.server(run.gguf("q3_k_m")) as server, said as caught:
        parity.check(read_jsonl(run.dataset / "train.jsonl"), tokens, "<|im_end|>", server, merged)
    first = {"template": "text in 'What is the capital of France?': ftq has", "tokenizer": "tokens in"}
    assert first[what] in caught.value.message and "take the files from the hub again" in caught.value.hint


# ---- by importance, and the adapter alone ------------------------------------------------------------------------


@pytest.mark.slow
def test_what_matters_more_is_rounded_with_more_care(exported: Path, tmp_path: Path) -> None:
    source, target, squares = RunDir(exported).gguf("f16"), tmp_path / "small.gguf", tmp_path / "squares.npz"
    quantize(source, target, "q3_k_m")
    plain = {one.name: (one.tensor_type, one.data.copy()) for one in GGUFReader(target).tensors}
    weight = np.geomspace(1e-4, 1, HIDDEN)
    np.savez(squares, **{"blk.0.attn_q.weight": weight})
    size = target.stat().st_size
    requantize(source, target, squares)
    weighed = {one.name: (one.tensor_type, one.data.copy()) for one in GGUFReader(target).tensors}
    assert target.stat().st_size == size and [kind for kind, _ in plain.values()] == [k for k, _ in weighed.values()]
    assert [name for name in plain if not np.array_equal(plain[name][1], weighed[name][1])] == ["blk.0.attn_q.weight"]
    exact = next(one for one in GGUFReader(source).tensors if one.name == "blk.0.attn_q.weight").data.astype("f4")
    kind, before = plain["blk.0.attn_q.weight"]
    lost = [
        ((dequantize(data, kind) - exact) ** 2 * weight).sum() for data in (before, weighed["blk.0.attn_q.weight"][1])
    ]
    assert lost[1] < 0.9 * lost[0]


ASK = """
import json, sys
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.warmup, params.verbosity = sys.argv[1], 256, False, 1
params.n_gpu_layers, params.fit_params = 0, False
if len(sys.argv) > 2:
    adapter = xllamacpp.CommonAdapterLoraInfo()
    adapter.path, adapter.scale = sys.argv[2], 1.0
    params.lora_adapters = [adapter]
body = {"prompt": [1, 100, 200, 300, 400], "max_tokens": 1, "logprobs": 50, "temperature": 0}
[first] = xllamacpp.Server(params).handle_completions(body)["choices"][0]["logprobs"]["content"]
print(json.dumps({one["id"]: one["logprob"] for one in first["top_logprobs"]}))
"""


@pytest.mark.slow
def test_the_base_with_the_adapters_gguf_expects_what_the_merged_model_does(exported: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    convert(exported.parent / "tiny", base, "f16")

    def likely(*files: Path) -> dict[str, float]:
        done = subprocess.run([sys.executable, "-c", ASK, *map(str, files)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        tokens: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return tokens

    merged, both = likely(RunDir(exported).gguf("f16")), likely(base, exported / "adapter.gguf")
    common = merged.keys() & both.keys()
    assert len(common) > 40 and max(abs(merged[one] - both[one]) for one in common) < 0.1
    assert len(merged.keys() & likely(base).keys()) < 10


# ---- a second reader --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_llama_cpps_and_the_gguf_package_read_the_same_from_one_file(pool: Pool) -> None:
    """Two builds round otherwise, so a near tie may go the other way; one that reads otherwise expects little of it."""
    file = packaged_gguf()
    assert file
    fields = GGUFReader(file).fields
    rows = []
    with pool.server(file) as server:
        end = server.tokens(server.end_of_sequence(), start=False, special=True)
        for text in ("What is the capital of France?", "Count to five.", "Wie heißt du?"):
            asked = server.prompt_ids(Question(text, chat=True))
            body = {"prompt": asked, "n_predict": 24, "temperature": 0, "top_k": 1, "return_tokens": True}
            rows.append(Row(asked + server._post("/completion", body)["tokens"], len(asked)))
        assert fields["tokenizer.chat_template"].contents() and end == [
            fields["tokenizer.ggml.eos_token_id"].contents()
        ]
    assert logits.score(file, rows).expected > 0.9
    shifted = [Row([token + 1 for token in row.ids], row.first) for row in rows]
    assert logits.score(file, shifted).expected < 0.2
