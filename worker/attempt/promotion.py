"""Whether a run that has just succeeded is at least as good as its name's `latest`: promote=better."""

from __future__ import annotations

from pathlib import Path

from ftq.evaluation.compare import why_worse
from ftq.evaluation.evaluation import Evaluation
from ftq.files.run_dir import RunDir, run_dir
from ftq.store.versions import Judge


def judge(home: Path, run: RunDir) -> Judge:
    """What the store asks about the run that is `latest`: why this one is no better, or nothing if it is no worse."""
    return lambda latest: why_worse(*(Evaluation.read_if_whole(one.evaluation) for one in (run, run_dir(home, latest))))
