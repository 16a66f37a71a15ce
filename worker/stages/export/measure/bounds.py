"""How far a file may be from f16 before the user is told, and what to do then."""

from __future__ import annotations

from ftq.files.export_report import Distance, GgufReport
from worker.gguf.holds import BLOCK, WHOLE, whole

# (mean KL against f16 in nats, perplexity as a share of f16's): two to five times what the type costs SmolLM2-135M,
# measured in docs/export.md. Larger models lose less.
BOUNDS = {
    "bf16": (0.02, 1.05),
    "q8_0": (0.02, 1.05),
    "q6_k": (0.04, 1.06),
    "q5_k_m": (0.45, 1.25),  # SmolLM2's rows of 576 aren't cut into 256: most get a type that suits it badly
    "q5_k_s": (0.45, 1.25),
    "q4_k_m": (0.15, 1.20),
    "q4_k_s": (0.40, 1.35),
    "q3_k_l": (0.50, 1.70),
    "q3_k_m": (0.60, 1.70),
    "q2_k": (1.40, 3.00),
}
STOP_RATE = 0.95
CONVERTED_KL = 0.02  # of f16 against the merged model: only rounding is between them
BETTER = "Submit the run again with a larger --quant, or with --set imatrix=true: only the export is computed anew."


def notes(file: GgufReport, f16: float | None) -> list[str]:
    """What the user has to know about the file, each with what to do; `f16` is the f16 file's perplexity."""
    lines = _lost(file, file.against_f16, f16) if file.against_f16 else []
    if file.type not in WHOLE and (kept := whole(file.holds)) > 0:
        lines.append(
            f"{file.file} has {kept:.0%} of its weights in 16 bit: their rows can't be cut into {BLOCK}. "
            f"It is larger than {file.type} should be."
        )
    stops = file.stops
    if stops.rate < STOP_RATE:
        lines.append(
            f"{file.file} ended {stops.stopped} of {stops.questions} answers itself ({stops.rate:.0%}, should be "
            f"{STOP_RATE:.0%}): it may write on until max_tokens. More epochs or a higher learning_rate teach it to "
            "stop; so do shorter answers in the documents."
        )
    return lines


def _lost(file: GgufReport, distance: Distance, f16: float | None) -> list[str]:
    most_kl, most_share = BOUNDS[file.type]
    share = file.perplexity / f16 if file.perplexity and f16 else 1.0
    if distance.kl <= most_kl and share <= most_share:
        return []
    return [
        f"{file.file} is further from f16 than {file.type} should be: a KL of {distance.kl:.3f} (at most {most_kl}), "
        f"{share:.2f} times its perplexity (at most {most_share}), the same next token at {distance.top1:.0%}. {BETTER}"
    ]
