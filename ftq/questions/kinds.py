"""What kind of thing a value is, so that a question can ask how long, where or which option."""

from __future__ import annotations

import re

UNIT = re.compile(
    r"[-+~<>≤≥]?\s?\d[\d.,]*\s?(?:(?P<duration>ms|s|sec|min|h|hrs?|(?:milli|micro)?seconds?|minutes?|hours?|days?|weeks?|"
    r"months?|years?)|(?P<size>[KMGT]i?B?|bytes?|bits?)|(?P<percent>%|percent))",
    re.IGNORECASE,
)
DURATION = re.compile(r"(?:\d+(?:ms|[dhms])){1,4}", re.IGNORECASE)
EXTENSIONS = (
    "md|txt|json|jsonl|ya?ml|toml|ini|conf|cfg|env|lock|log|db|sqlite|html?|css|jsx?|tsx?|py|rs|go|rb|java|c|h|cpp|sh|bat|ps1|"
    "xml|csv|tsv|pdf|docx?|xlsx?|png|jpe?g|svg|gif|zip|gz|tar|xz|zst|gguf|bin|so|dll|exe|out|err|old|pem|crt|key|service"
)
KINDS = {
    "yes_no": re.compile(r"(?:yes|no|true|false|required|optional|mandatory|never|always)\b.{0,20}", re.IGNORECASE),
    "duration": DURATION,
    "version": re.compile(r"v?\d+\.\d+\.\d+\S*|v\d+(?:\.\d+)*"),
    "number": re.compile(r"[-+~<>≤≥]?\s?\d[\d.,]*"),
    "option": re.compile(r"--?[A-Za-z][\w-]*(?:[= ]\S+)?"),
    "variable": re.compile(r"\$?[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+"),
    "path": re.compile(r"[~.]?/[\w./*{}<>$-]+|(?:[\w.*-]+/)+[\w.*-]*|\.[a-z][\w.-]+|[\w*.-]+\.(?:" + EXTENSIONS + ")"),
    "command": re.compile(r"[a-z][\w./-]+(?: \S+)+"),
    "setting": re.compile(r"[A-Za-z]\w*(?:[._]\w+)+"),
}


def kind_of(value: str) -> str:
    """A kind's name; empty for words. Only what stands in code is an option, a command or a setting."""
    plain, is_code = value.strip("`\"' ").rstrip("."), value.startswith("`")
    unit = UNIT.fullmatch(plain)
    if unit and not is_code:
        return next(name for name, text in unit.groupdict().items() if text)
    for name, pattern in KINDS.items():
        if pattern.fullmatch(plain) and (is_code or name in ("yes_no", "duration", "version", "number", "path")):
            return name
    return ""
