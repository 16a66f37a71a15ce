"""Documents -> dataset/{train,valid}.jsonl, their tokens, report.json and preview.html.

Nothing is cut silently: every file and every record is used, or skipped with a reason. What a later stage
would fail on (no base model, no room for the export) is said here, before any time is spent.
"""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ftq.check import chats
from ftq.check.check import check_of
from ftq.check.page import page
from ftq.check.survey import Survey
from ftq.errors import UserError, blaming
from ftq.examples import dataset, json_records
from ftq.examples.dataset import Examples
from ftq.examples.records.given import Candidate
from ftq.examples.report import Skipped
from ftq.examples.split import Row
from ftq.facts import Fact
from ftq.files.run_dir import REPORT, RunDir, write_json
from ftq.parallel import OFTEN
from ftq.plan import sizes
from ftq.spec import models, weights
from ftq.spec.options import RunSpec
from ftq.spec.shape import reading_part
from ftq.words import listed
from worker.gguf.holds import BLOCK, WHOLE
from worker.llama import check as native
from worker.questions.writer import of_run
from worker.stages.model import base_model, revisions, rows
from worker.stages.model.check import tried
from worker.stages.model.tokens import Tokens
from worker.stages.process.main import Report

PREVIEW = "preview.html"
MOST_WHOLE = 0.5  # of the weights that stay in 16 bit: more, and a quantised file would be none
# Weights that llama.cpp makes q8_0 where their rows fit no other type, and for q8_0 it has no other type.
OUTPUTS = ("lm_head.weight", "embed_tokens.weight")
SHOWN = 20  # skipped files and records that are told one by one; report.json has them all


def prepare(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write dataset/ into `out`. UserError when the documents give no example at all."""
    gc.set_threshold(OFTEN)
    model_dir = base_model.resolve(spec.model)
    with blaming("model"):
        stop = base_model.stop_token(model_dir, spec.model, spec.format)
        tokens = Tokens(model_dir, spec.format)
    row = _row(model_dir, tokens, stop, spec, report)
    _check_export(run, model_dir, spec, stop, report)
    report.progress(5)
    questions = dataset.questions_of(spec)
    folder = out / "dataset"
    folder.mkdir()
    revision = revisions.of(model_dir)
    writer = _writer(run, folder, spec, revision, report)
    read = 45 if writer else 90  # percent of the work
    if spec.strict:
        _check_lines(run)
    held_out = run.validation if spec.validation else None
    examples = Examples(
        run.documents,
        row,
        None,
        lambda share: report.progress(5 + read * share),
        questions,
        writer,
        validation=held_out,
        keeps_equal=spec.strict,
    )
    _, valid, tested = dataset.write(examples, folder, spec.seed, spec.valid_fraction)
    if not examples.count:
        raise _nothing(examples)
    _tell_skipped(examples, report)
    _tell(_worth_knowing(examples), "note", report)
    examples.documents.skipped.extend(_left_out(run))
    survey = Survey(run.documents, lambda example: tokens.texts(example, stop), spec.seed, held_out)
    lengths = rows.write(folder, model_dir, stop, spec.format, tokens, survey.add)
    with blaming("model"):
        rows.check_vocabulary(folder, tokens, reading_part(base_model.read_config(model_dir))["vocab_size"])
    summary = examples.report(valid, lengths, row.limit, stop, revision, tested)
    told = check_of(spec.documents, spec.model, summary, survey)  # what `ftq check` would tell
    write_json(folder / REPORT, {**summary.to_json(), "findings": [asdict(one) for one in told.findings]})
    (folder / PREVIEW).write_text(page(told), encoding="utf-8")
    report.progress(100)


def _writer(
    run: RunDir, folder: Path, spec: RunSpec, revision: str, report: Report
) -> Callable[[list[Candidate]], list[Fact]] | None:
    """What has a language model write questions on sections, where the run asks for it."""
    if spec.questions not in ("base", "endpoint"):
        return None

    def progress(share: float) -> None:
        report.progress(50 + 45 * share)

    ask = of_run(run, folder, spec.questions, spec.model, report.event, progress, revision)
    return lambda sections: ask(sections).facts


def _row(model_dir: Path, tokens: Tokens, stop: str, spec: RunSpec, report: Report) -> Row:
    context = models.context_in(base_model.read_config(model_dir)) or spec.max_seq_length
    if context < spec.max_seq_length:
        report.event("note", f"{spec.model} reads at most {context} tokens: max_seq_length={context} is used")
    return Row(min(context, spec.max_seq_length), lambda example: len(tokens.row(example, stop)[0]))


def _check_export(run: RunDir, model_dir: Path, spec: RunSpec, stop: str, report: Report) -> None:
    """The base model can become a GGUF, and the disk has room for all that the export writes."""
    native.ensure()
    _tell_unread(model_dir, spec.model, report)
    with blaming("model"):
        same = tried.once(model_dir, spec.model, stop, spec.format)
    if same.different:
        said = f"{same.different} of {same.prompts} prompts aren't the same in ftq and llama.cpp: answers may be worse"
        report.event("warning", f"{said}. {same.examples[0]}")
    with blaming("model"):
        _check_rows(model_dir, spec, report)
    fewer = "Make room there, or ask for fewer --quant types."
    sizes.check_room(run.path, weights.parameters(model_dir), spec.quantizations, fewer)


def _tell_unread(model_dir: Path, model: str, report: Report) -> None:
    """Say which files count where two sets of weights lie side by side."""
    if others := weights.unread(model_dir):
        loaded = f"what {weights.INDEX} names" if weights.weight_index(model_dir) else weights.WEIGHTS
        report.event("note", f"model {model}: {loaded} is loaded, and not {listed(others, 1)} beside it")


def _check_rows(model_dir: Path, spec: RunSpec, report: Report) -> None:
    """Tell which weights no type can shrink. UserError where that is most of them, or where llama.cpp would fail."""
    small = [kind for kind in spec.quantizations if kind not in WHOLE]
    matrices = {name: one for name, one in weights.read(model_dir).items() if len(one.shape) == 2}
    narrow = {name: math.prod(one.shape) for name, one in matrices.items() if one.shape[-1] % BLOCK}
    if not small or not narrow:
        return
    share = sum(narrow.values()) / sum(math.prod(one.shape) for one in matrices.values())
    first = next((name for name in narrow if name.endswith(OUTPUTS)), next(iter(narrow)))
    said = (
        f"model {spec.model}: {share:.0%} of the weights can't be quantised, for their rows can't be cut into {BLOCK} "
        f"({first} has rows of {matrices[first].shape[-1]})"
    )
    if share > MOST_WHOLE:
        names = " and ".join(small)
        raise UserError(
            f"{said}: {names} would be f16 under another name", "Ask for --quant f16, or take another model."
        )
    if fails := small if first.endswith(OUTPUTS) else [kind for kind in small if kind == "q8_0"]:
        hint = f"Ask for --quant f16{'' if fails == small else ' or one of the other types'}, or take another model."
        raise UserError(f"{said}: llama.cpp can't make {' and '.join(fails)} of it", hint)
    report.event("warning", f"{said}: these stay f16 in every file")


def _check_lines(run: RunDir) -> None:
    """Every line of every file of JSON Lines can be learned, or measured on. UserError names the first that can't."""
    for about, folder in (("training", run.documents), ("validation", run.validation)):
        if found := chats.first_fault(folder):
            path, fault = found
            raise UserError(fault.message, f"Correct {path.relative_to(run.path)}, and submit it again.", about)


def _left_out(run: RunDir) -> list[Skipped]:
    """What submit left out of the run's documents and has told."""
    if not run.left_out.is_file():  # as in a run of an earlier version
        return []
    return [Skipped(name, reason) for name, reason in json.loads(run.left_out.read_text(encoding="utf-8"))]


def _nothing(examples: Examples) -> UserError:
    why = [f"  {file.path}: {file.reason}" for file in examples.documents.skipped] or ["  the folder is empty"]
    if len(why) > SHOWN:
        why = [*why[:SHOWN], f"  and {len(why) - SHOWN} more"]
    hint = f"Put texts, or .json/.jsonl files with {json_records.KNOWN}, into the documents folder."
    return UserError("no example in the documents:\n" + "\n".join(why), hint, "training")


def _tell_skipped(examples: Examples, report: Report) -> None:
    lines = [f"skipped {file.path}: {file.reason}" for file in examples.documents.skipped]
    lines += [f"skipped {record.where}: {record.reason}" for record in examples.records_skipped]
    _tell(lines, "warning", report)


def _worth_knowing(examples: Examples) -> list[str]:
    """On documents that are used, and what they say differently."""
    of_facts = examples.questions.contradictions if examples.questions else ()
    return [*examples.documents.notes, *map(str, (*of_facts, *examples.answers.contradictions))]


def _tell(lines: list[str], event: str, report: Report) -> None:
    for line in lines[:SHOWN]:
        report.event(event, line)
    if len(lines) > SHOWN:
        report.event(event, f"{len(lines) - SHOWN} more are in dataset/report.json")
