"""`key = value` below sections in brackets or braces: TOML, INI, systemd's units, properties, .env, JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ftq.facts.rules.settings.setting import COMMENT, DECORATION, Above, Setting, parted

SECTION = re.compile(r"\s*\[{1,2}\s*([^\[\]=]{1,80}?)\s*\]{1,2}\s*(?:[#;].*)?")
PAIR = re.compile(
    r"\s*(?:export )?(?P<quote>[\"']?)(?P<key>[A-Za-z_][\w.-]{0,79})(?P=quote)"
    r"(?P<sign>\s{0,40}=\s{0,8}|\s?:\s{1,8})(?P<value>\S.*)"
)
OPENS = re.compile(r"\s*(?P<quote>[\"']?)(?P<key>[A-Za-z_][\w. -]{0,79}?)(?P=quote)\s*[:=]?\s*[\[{]")
OFF = re.compile(r"(?P<key>[A-Z][A-Z0-9_]{3,79}|[a-z]\w{0,40}(?:[._]\w{1,40})+) ?= ?(?P<value>\S+)")
GOES_ON = ("[", "{", "(", '"""', "'''", "\\")  # a value that goes on in the next lines ends with


def flat(lines: Sequence[str], first: int) -> Iterator[Setting]:
    """What the lines set; `first` is the number of the first one."""
    section, braces, above = list[str](), list[str](), Above()
    for number, line in enumerate(lines):
        text = line.strip()
        if commented := COMMENT.fullmatch(line):
            said = commented["text"].strip(DECORATION)
            if above and (off := OFF.fullmatch(said)):
                yield Setting(first + number, (off["key"],), "=", off["value"], above.take(), is_off=True)
            else:
                above.add(said)
            continue
        comment = above.take()
        if text[:1] in ("}", "]") or not text:
            braces[-1:] = [] if text else braces[-1:]
        elif header := SECTION.fullmatch(line):
            section = [part.strip("\"' ") for part in header[1].split(".")]
        elif text.endswith(("{", "[")) and (opened := OPENS.match(line)):
            braces.append(opened["key"].strip())
        elif text[0] in "{[":
            braces += [""] * (text[-1] in "{[")
        elif pair := PAIR.fullmatch(line):
            value, beside = parted(pair["value"])
            if value.endswith(GOES_ON):
                continue
            follows = number + 1 < len(lines) and PAIR.fullmatch(lines[number + 1]) is not None
            path, value = tuple(filter(None, (*section, *braces, pair["key"]))), value.rstrip(",;")
            yield Setting(
                first + number, path, pair["sign"], value, comment, beside, follows, is_listed="" in braces[1:]
            )
