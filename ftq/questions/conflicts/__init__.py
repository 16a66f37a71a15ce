"""One question, one answer (resolved.py); and what documents say differently (contradictions.py), where nothing tells
that they speak of two things (apart.py)."""

from ftq.questions.conflicts.contradictions import VALUE, contradictions
from ftq.questions.conflicts.resolved import asked, asked_hash, resolved

__all__ = ["VALUE", "asked", "asked_hash", "contradictions", "resolved"]
