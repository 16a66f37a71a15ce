"""Keys whose makers gave them a form of their own, and passwords where a command or an address has them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftq.check.secrets.values import END, SIGNS, Secret, is_password, is_placeholder

FORMS = {
    "private key": r"-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----",
    "AWS key": r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{60,90}",
    "GitLab token": r"\bglpat-[\w-]{20,50}",
    "Slack token": r"\bxox[abeoprs]-[\w-]{20,200}",
    "Slack webhook": r"\bhooks\.slack\.com/(?:services|workflows)/[A-Z0-9]{6,20}/[A-Z0-9]{6,20}/\w{16,60}",
    "Google key": r"\bAIza[\w-]{35}",
    "Azure key": r"\bAccountKey=[A-Za-z0-9+/]{40,100}={0,2}",
    "Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{20,120}",
    "OpenAI or Anthropic key": r"\bsk-(?:ant-|proj-|svcacct-)?[A-Za-z0-9][\w-]{30,200}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,50}\b",
    "PyPI token": r"\bpypi-AgE[\w-]{50,300}",
    "npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "SendGrid key": r"\bSG\.[\w-]{20,24}\.[\w-]{40,46}",
    "web token": r"\beyJ[\w-]{12,2000}(?:\.[\w-]{8,4000}){1,2}|\b[Bb]earer (?=[\w.~+/-]{0,80}\d)[\w.~+/-]{20,2000}",
    "password in an address": r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@<>\"'`{}$]{1,60}:[^\s/:@<>\"'`{}$*]{6,80}@[\w.-]{4,}",
}
ANY = re.compile("|".join(f"({form})" for form in FORMS.values()))
HINTS = (
    *("-----BEGIN", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox"),
    *("hooks.slack", "AIza", "AccountKey=", "k_live_", "sk-", "hf_", "pypi-", "npm_", "SG.", "eyJ", "earer ", "://"),
)  # fmt: skip
KEY_BODY = re.compile(r"(?:\s|\\n)*(?:[\w-]{1,40}: [^\n]{1,200}\s+)*[\w+/=]{30}")  # behind a private key's first line
DEMO = re.compile(r"eyJzdWIiOiIxMjM0NTY3ODkw|\bT0{8}")  # the token that every page on web tokens has, Slack's own
# `curl -u joe:...`, `mysql -p...`, `admin:...`
PASSED = re.compile(
    rf"\bcurl\b[^\n]{{0,200}}? (?:-u|--user)[ =]?[\"']?[^\s:\"'$<{{]{{1,60}}:({SIGNS}){END}"
    rf"|\b(?:mysql|mysqldump|mysqladmin|mariadb|sshpass)\b[^\n]{{0,200}}? -p ?[\"']?({SIGNS}){END}"
)
LOGINS = (
    *("admin:", "administrator:", "root:", "user:", "guest:", "pi:", "postgres:", "test:", "demo:", "login:"),
    *("support:", "service:", "sa:"),
)  # fmt: skip
LOGIN = re.compile(rf"(?<![\w/.@:-])(?:{'|'.join(LOGINS)})(?=[^\s:]{{0,40}}[A-Z])(?=[^\s:]{{0,40}}[a-z])({SIGNS}){END}")
PASSES = ("curl", "mysql", "mariadb", "sshpass")


def formed(text: str) -> Iterator[Secret]:
    """All in the text that has one of the forms."""
    if any(map(text.__contains__, HINTS)):
        for match in ANY.finditer(text):
            if match.lastindex and not is_placeholder(match[0]) and not DEMO.search(match[0]) and _is_random(match[0]):
                is_header = match[0].startswith("-----") and not KEY_BODY.match(text, match.end())
                yield Secret(list(FORMS)[match.lastindex - 1], match[0], match[0], is_header)
    passed = PASSED.finditer(text) if any(map(text.__contains__, PASSES)) else ()
    logins = LOGIN.finditer(text) if any(map(text.__contains__, LOGINS)) else ()
    for match in (*passed, *logins):
        value = match[match.lastindex or 0]
        if is_password(value):
            yield Secret("password or key", value, match[0])


def _is_random(text: str) -> bool:
    return text.startswith("-----") or len(set(text)) >= 10
