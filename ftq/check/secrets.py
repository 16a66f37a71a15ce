"""Text that looks like a secret. A model learns it by heart and tells it to whoever asks.

Only keys whose makers gave them a form of their own: a guess at what a password looks like would cry wolf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

FORMS = {
    "private key": r"-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----",
    "AWS key": r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{60,90}",
    "GitLab token": r"\bglpat-[\w-]{20,50}",
    "Slack token": r"\bxox[abeoprs]-[\w-]{20,200}",
    "Google key": r"\bAIza[\w-]{35}",
    "Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{20,120}",
    "OpenAI or Anthropic key": r"\bsk-(?:ant-|proj-|svcacct-)?[A-Za-z0-9][\w-]{30,200}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,50}\b",
    "PyPI token": r"\bpypi-AgE[\w-]{50,300}",
    "npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "SendGrid key": r"\bSG\.[\w-]{20,24}\.[\w-]{40,46}",
    "password in an address": r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@<>\"'`{}$]{1,60}:[^\s/:@<>\"'`{}$*]{6,80}@[\w.-]{4,}",
}
ANY = re.compile("|".join(f"({form})" for form in FORMS.values()))
HINTS = ("-----BEGIN", "AKIA", "ASIA", "gh", "glpat-", "xox", "AIza", "k_live_", "sk-", "hf_", "pypi-", "npm_", "SG.",
         "://")  # fmt: skip
PLACEHOLDER = re.compile(
    r"example|sample|placeholder|changeme|change-me|your|dummy|fake|x{4}|\.\.\.|1234567|abcdef|:password@|:secret", re.I
)


def secrets(text: str) -> Iterator[tuple[str, str]]:
    """(what it looks like, the secret) of all in the text; what is plainly an example isn't one."""
    if any(hint in text for hint in HINTS):
        for match in ANY.finditer(text):
            if match.lastindex and not PLACEHOLDER.search(match[0]) and _is_random(match[0]):
                yield list(FORMS)[match.lastindex - 1], match[0]


def _is_random(text: str) -> bool:
    return text.startswith("-----") or len(set(text)) >= 10


def masked(secret: str) -> str:
    """Enough to find it, too little to use it."""
    return secret if secret.startswith("-----") else f"{secret[:6]}..."
