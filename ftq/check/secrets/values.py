"""What a password or a key looks like, and what only stands for one."""

from __future__ import annotations

import re
from typing import NamedTuple


class Secret(NamedTuple):
    """`told` is the text that it stands in, by which its line is found. `is_header`: of a private key no more is there
    than its first line."""

    what: str
    value: str
    told: str
    is_header: bool = False


SIGNS = r"[^\s\"'`<>(){}\[\]$*,;|\\«»“”„：]{4,200}+"  # of a value; none of code and templates
END = r"(?![(<{\[$*|\\])"  # behind it: the value isn't the start of code
NAMES = "password|passwort|passwd|secret|token|key|value|name|file|path|required|optional|string"
STANDS_FOR = re.compile(
    rf"[\w-]*(?:{NAMES})|(?:(?:my|the|new|old|some|user|db|root|admin|app|test|this)[-_]?)?(?:{NAMES})\d|https?:.*|"
    r"[./~].*|[\w.+-]+@[\w-]+\.[\w.]+|(?-i:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)+)|[a-z_]\w*(?:\.[a-z_]\w*)+",
    re.I,
)
PLACEHOLDER = re.compile(
    r"example|sample|placeholder|change-?_?me|your|dummy|fake|my-secret|xxx|\.\.\.|…|1234567|abcdef|:password@|:secret|"
    r"beispiel|dein|ihr-",
    re.I,
)
# what is written with a digit and is no password: methods, versions, amounts
TERM = re.compile(
    r"(?:wpa|sha|md|base|oauth|pbkdf|argon|bcrypt|scrypt|aes|rsa|utf|latin|iso|rfc|ipv|tls|http|ntlm|id|ssha)[-_]?\d.*|"
    r"[xX]\.?509.*|v?\d+(?:\.\d+)+[\w.+-]*|v\d+\w{0,8}|\d{1,4}-[a-z-]+|(?:hs|rs|es|ps)(?:256|384|512)|"
    r"\d+(?:char|byte|bit|second|minute|hour|day|week|month|year|digit|zeichen|stellen|tage|kb|mb|gb)\w*",
    re.I,
)


def is_placeholder(text: str) -> bool:
    return bool(PLACEHOLDER.search(text))


def is_password(text: str, least: int = 6) -> bool:
    """Whether it has letters and digits, or signs as no word has them, and is no example."""
    text = text.rstrip(".:?")
    return len(text) >= least and bool(MIXED.match(text)) and not _is_said(text)


def is_strong(text: str) -> bool:
    """Whether it is long, or mixes what words don't: not `room12`."""
    return len(text) >= 8 or bool(STRONG.match(text))


def stands_for(text: str) -> bool:
    return bool(STANDS_FOR.fullmatch(text))


def is_key(text: str, least: int = 12) -> bool:
    """Whether it has letters and digits and is long."""
    text = text.rstrip(".:?!")
    return len(text) >= least and bool(KEY.fullmatch(text)) and not _is_said(text)


MIXED = re.compile(r"(?=.*[^\W\d_])(?=.*(?:\d|[@#%^]|[!?].))")
STRONG = re.compile(r"(?=.*[A-Z])(?=.*[a-z])(?=.*\d)|(?=.*[^\W\d_])(?=.*\d)(?=.*[!?@#%^])")
KEY = re.compile(r"(?=.*\d)(?=.*[^\W\d_])[\w.+/=~-]+")


def _is_said(text: str) -> bool:
    return is_placeholder(text) or bool(STANDS_FOR.fullmatch(text) or TERM.fullmatch(text))


def masked(secret: str) -> str:
    """Enough to find it, too little to use it."""
    return secret if secret.startswith("-----") else f"{secret[: min(6, len(secret) // 3)]}..."
