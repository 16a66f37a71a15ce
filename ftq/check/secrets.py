"""Text that looks like a secret. A model learns it by heart and tells it to whoever asks.

Keys whose makers gave them a form of their own, and values set under a name as PASSWORD or in a table's column of that
name: a guess at what a password looks like anywhere else would cry wolf.
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
HINTS = (
    "-----BEGIN",
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xox",
    "AIza",
    "k_live_",
    "sk-",
    "hf_",
    "pypi-",
    "npm_",
    "SG.",
    "://",
)
# What a value is set under, and the value: any word under a name in capitals, else one with a digit in it.
_KEYS = r"PASSW(?:OR)?[DT]|KENNWORT|PASSPHRASE|SECRET|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|(?:ACCESS|AUTH|API|BOT)_?TOKEN"
_VALUE = r"[^\s\"'`<>(){}\[\]$*,;|\\]{6,80}(?![\w(<{\[$*|\\])"
WORDS = ("passw", "kennw", "passphrase", "secret", "key", "token")
HINT = re.compile(  # quickly
    r"(?:passw|kennwort|passphrase|secret|api.?key|access.?key|private.?key|token)[^=:\n]{0,40}"
    r"(?:[=:]| is | ist | lautet )"
)
NAMED = re.compile(
    rf"(?:(?:{_KEYS})\w{{0,20}}(?:=|: )|(?i:{_KEYS.replace('_', '[_-]')})[\"']?(?:=|: ?)(?=[\"']?[A-Za-z_-]{{0,40}}\d))"
    rf"[\"']?(?=[^\s\"']{{0,40}}[A-Za-z])({_VALUE})"
)
# `the router's password is Hunter2Hunter2`: what no word looks like, for documents say much else of passwords.
TOLD = re.compile(
    rf"(?i:\b(?:{_KEYS.replace('_', '[ _-]')})\b(?: [\w-]{{1,30}}){{0,4}} (?:is|ist|lautet):? )[\"'`]?"
    rf"(?!(?i:base64|sha|md5|oauth|pbkdf|argon))(?=[^\s-]{{0,40}}[a-z])(?=[^\s-]{{0,40}}[A-Z])(?=[^\s-]{{0,40}}\d)([^\s\"'`<>(){{}}\[\]$*|\\-]{{8,80}})(?![\w-])"
)
# A column, or the row of a table, that is called so, and what looks like a password below or beside it.
PASSWORDS = r"passwor[dt]|passwd|kennwort|passphrase"
CALLED = re.compile(
    rf"(?:[\w./'’-]{{1,30}} ){{0,3}}(?:[\w-]{{1,30}}-)?"
    rf"(?:(?P<password>{PASSWORDS})|secret|token|(?:api|access|private|secret)[ _-]?key)(?: \([^()]{{1,40}}\))?",
    re.I,
)
CELL, RULER = re.compile(r"(?<!\\)\|"), re.compile(r"[\s|:-]*-[\s|:-]*")
VALUE = re.compile(r"(?=.*[^\W\d_])(?=.*[\d!?@#%&+=~^])[^\s\"'`<>(){}\[\]$*|\\]{6,200}")
TOKEN = re.compile(r"(?=.*\d)(?=.*[^\W\d_])[\w.+/=~-]{12,}")
STANDS_FOR = re.compile(
    r"[\w-]*(?:password|passwd|secret|token|key|value|name|file|path|required|optional|string)\d?|https?:.*|[./~].*",
    re.I,
)
PLACEHOLDER = re.compile(
    r"example|sample|placeholder|changeme|change-me|your|dummy|fake|my-secret|x{4}|\.\.\.|1234567|abcdef|:password@|"
    r":secret",
    re.I,
)


def secrets(text: str) -> Iterator[tuple[str, str]]:
    """(what it looks like, the secret) of all in the text; what is plainly an example isn't one."""
    if any(map(text.__contains__, HINTS)):
        for match in ANY.finditer(text):
            if match.lastindex and not PLACEHOLDER.search(match[0]) and _is_random(match[0]):
                yield list(FORMS)[match.lastindex - 1], match[0]
    lowered = text.lower()
    if not any(map(lowered.__contains__, WORDS)):
        return
    if "|" in text:
        yield from (("password or key", value) for value in _in_tables(text))
    if not HINT.search(lowered):
        return
    for match in (*NAMED.finditer(text), *TOLD.finditer(text)):
        if not PLACEHOLDER.search(match[0]) and not STANDS_FOR.fullmatch(match[1]):
            yield "password or key", match[0]


def _in_tables(text: str) -> Iterator[str]:
    """The values of columns, and of rows, that are called Password, Token and so on."""
    lines = text.splitlines()
    columns = dict[int, bool]()  # those called so, and whether it is a password's name
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if "|" not in line:
            columns = {}
            continue
        cells = [cell.strip(" \t`*_\"'") for cell in CELL.split(line.strip().removeprefix("|").removesuffix("|"))]
        if "|" in below and RULER.fullmatch(below):
            columns = {
                number: bool(called["password"]) for number, called in enumerate(map(CALLED.fullmatch, cells)) if called
            }
            continue
        told = dict(columns)
        if called := CALLED.fullmatch(cells[0]):
            told[1] = bool(called["password"])
        for number, is_password in told.items():
            value = cells[number] if number < len(cells) else ""
            looks_so = (VALUE if is_password else TOKEN).fullmatch(value)
            if looks_so and not PLACEHOLDER.search(value) and not STANDS_FOR.fullmatch(value):
                yield value


def _is_random(text: str) -> bool:
    return text.startswith("-----") or len(set(text)) >= 10


def masked(secret: str) -> str:
    """Enough to find it, too little to use it."""
    return secret if secret.startswith("-----") else f"{secret[: min(6, len(secret) // 3)]}..."
