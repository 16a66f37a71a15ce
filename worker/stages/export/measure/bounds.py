"""How far a file may be from f16 before the user is told, and what to do then."""

from __future__ import annotations

import math

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
# Only rounding is between base + adapter, the merged model and its f16 file. Of SmolLM2 and of tiny models that gives a
# KL of up to 0.001; beyond these the user is told.
MERGED_KL = CONVERTED_KL = 0.02
BROKEN_KL, ROUNDING_KL = 0.5, 0.1  # rounding alone never reaches the one, and may reach the other
CHANCE = 0.5  # of the next tokens: a misread model has fewer in common with the right one, however flat they are
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
            f"{STOP_RATE:.0%}): it may write on until max_tokens. More steps or a higher learning_rate teach it to "
            "stop; so do shorter answers in the documents."
        )
    return lines


def is_no_merge(distance: Distance, alone: Distance) -> bool:
    """Whether a merged model lacks its update, or has another: `alone` is how far the base is without any."""
    return not (distance.kl <= ROUNDING_KL or distance.kl < min(BROKEN_KL, alone.kl / 2))


def is_misread(distance: Distance) -> bool:
    """Whether a converted file computes something else than the model that it was made of."""
    return not (distance.kl <= CONVERTED_KL or (distance.kl < BROKEN_KL and distance.top1 >= CHANCE))


def rounded(what: str, of: str, distance: Distance, most: float) -> list[str]:
    """What the user has to know of a step that only rounds, if it costs the model more than that should."""
    if distance.kl <= most:
        return []
    return [
        f"{what} answers a little otherwise than {of}: a KL of {distance.kl:.3f} (usually below {most}), the same next "
        f"token at {distance.top1:.0%} of {distance.positions} positions. It is the rounding to 16 bits, to which this "
        "model is sensitive. The file can be used; a lower learning_rate or more steps make that smaller."
    ]


def _lost(file: GgufReport, distance: Distance, f16: float | None) -> list[str]:
    usual_kl, usual_share = BOUNDS[file.type]
    # A mean of few positions scatters: positions differ in their KL by about twice its mean.
    most_kl = round(usual_kl * (1 + 2 / math.sqrt(distance.positions)), 2)
    # Of few positions a perplexity may be that much higher by chance: log-likelihoods differ by about sqrt(2 KL) each.
    most_share = round(usual_share * math.exp(2 * math.sqrt(2 * distance.kl / distance.positions)), 2)
    share = file.perplexity / f16 if file.perplexity and f16 else 1.0
    if distance.kl <= most_kl and share <= most_share:
        return []
    return [
        f"{file.file} is further from f16 than {file.type} should be: a KL of {distance.kl:.3f} (at most {most_kl}), "
        f"{share:.2f} times its perplexity (at most {most_share}), the same next token at {distance.top1:.0%}. {BETTER}"
    ]
