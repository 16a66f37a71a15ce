"""K: what settings in code are for, by their comments; the values that an example gives them; defaults in prose."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from ftq.facts.blocks import Block, Code, Paragraph
from ftq.facts.checks import words
from ftq.facts.fact import Fact
from ftq.facts.place import Place
from ftq.facts.rules.code import COLUMNED, codes, language_of, purpose_of
from ftq.facts.rules.defaults import defaults
from ftq.facts.rules.english import as_purpose
from ftq.facts.rules.settings.comments import SHORTEST, is_act, is_on, said_of
from ftq.facts.rules.settings.flat import flat
from ftq.facts.rules.settings.nested import nested
from ftq.facts.rules.settings.setting import Setting

FLAT = frozenset(
    {"toml", "ini", "conf", "properties", "env", "dotenv", "cfg", "systemd", "service", "desktop", "hcl", "json"}
)
NESTED = frozenset({"yaml", "yml"})
SETS = re.compile(r"(?:export )?[A-Z][A-Z0-9_]{2,79}=[^\s$`|;].*")  # in code of a shell or of no language
CALL = re.compile(r"\w+=[^\s\"']*\s")  # `KEY=value command`
LINES, LONGEST = 400, 500  # of code and characters of a line; more is data
VALUES, TOO_MANY = 24, "value of an example"  # of one block; more is a dump
VALUE, NAME, TEXT = 60, 70, 2  # characters of a value and of the path to it, words of a value
NO_EXAMPLE = re.compile(
    r"\b(?:errors?|invalid|wrong|old|deprecated|bad|instead|before|fails?|output|response)\b", re.IGNORECASE
)
POINTS = re.compile(r"\b(?:this|these|that|those|it|them|follow\w*)\b")
PLACEHOLDER = re.compile(
    r"[<>{}$]|\*\*|\.\.\.|…|__|xxx|your|example|change.?me|secret|passw|token|foo|\bbar\b|user(?:name)?$|lorem|/path/to|"
    r"\bmy[-_ ]|(?:domain|company)\.|^language-|^[A-Z_]{4,}$|1\.2\.3\.4|dead:beef|1234|a+b+c|\d{4}-\d\d-\d\d|"
    r"[0-9a-f]{8}-[0-9a-f]{4}|^(?=\D*\d)(?=\S*[A-Za-z])[\w-]{20,}$",
    re.IGNORECASE,
)
TEXTS = frozenset(
    {"ask", "comment", "description", "error", "help", "label", "message", "name", "summary", "text", "title"}
)
SWITCHES = frozenset({"true", "false", "yes", "no", "y", "n", "on", "off", "0", "1"})
CAPITALS = re.compile(r"[A-Z][A-Z0-9_]{1,79}")


def key(place: Place) -> Iterator[Fact]:
    values: dict[str, list[tuple[Setting, str, str]]] = defaultdict(list)
    for code, before in codes(place.section.blocks):
        if settings := _settings(code):
            yield from _commented(place, settings)
            lead, purpose = _introduced(place, code, before)
            shown = [setting for setting in settings if lead and _is_shown(setting)]
            if len(shown) > VALUES:
                place.cut(shown[VALUES].line, TOO_MANY, len(shown) - VALUES)
            for setting in shown[:VALUES]:
                values[_name(setting)].append((setting, lead, purpose))
    for name, given in values.items():
        setting, lead, purpose = given[0]
        if len({_plain(other.value) for other, *_ in given}) == 1:
            yield place.fact("K", "set", f"`{name}`", f"`{_plain(setting.value)}`", setting.line, lead, purpose)
    yield from defaults(place)


def _settings(code: Code) -> list[Setting]:
    language = language_of(code)
    if len(code.lines) > LINES or any(len(line) > LONGEST for line in code.lines):
        return []
    if language in NESTED:
        return list(nested(code.lines, code.line))
    if language in FLAT:
        is_spread = language != "json" or not any(line.count('":') > 1 for line in code.lines)
        return list(flat(code.lines, code.line)) if is_spread else []
    if language not in COLUMNED:
        return []
    told = [line.strip() for line in code.lines if line.strip() and line.lstrip()[0] != "#"]
    is_call = len(told) == 1 and CALL.match(told[0])
    return list(flat(code.lines, code.line)) if told and all(map(SETS.fullmatch, told)) and not is_call else []


def _commented(place: Place, settings: Sequence[Setting]) -> Iterator[Fact]:
    """What the comments above and beside say."""
    for setting in settings:
        name = _name(setting)
        if len(name) > NAME:
            continue
        whole = f"{name}{setting.sign}{setting.value}" if setting.value else name
        if text := said_of(setting, [setting.beside]):
            does = bool(setting.value) and is_act(text)  # what it says is what the value does
            if does or (words(text) > SHORTEST and not setting.is_listed):
                yield _meaning(place, setting, whole if does else name, text)
        elif (text := said_of(setting, setting.above)) and (not setting.is_first or is_on(setting, text)):
            does = setting.is_listed or (_plain(setting.value).lower() in SWITCHES and is_act(text))
            yield _meaning(place, setting, whole if does else name, text)


def _meaning(place: Place, setting: Setting, subject: str, text: str) -> Fact:
    return place.fact("K", "meaning", f"`{subject}`", text, setting.line, sentence=text, kind="setting")


def _name(setting: Setting) -> str:
    """A variable and a unit's key by its name alone, others with what leads to them."""
    *around, last = setting.path
    is_unit = len(around) == 1 and around[0].istitle() and last.istitle()  # [Service]
    return last if CAPITALS.fullmatch(last) or setting.is_off or is_unit else ".".join(setting.path)


def _introduced(place: Place, code: Code, before: Block | None) -> tuple[str, str]:
    """(the sentence that introduces the code, what the code is for if that says it)."""
    lead = before.sentences[-1].text if isinstance(before, Paragraph) and before.sentences else ""
    if not lead.endswith((":", "：")) or NO_EXAMPLE.search(lead):
        return "", ""
    if language_of(code) == "json" and ".json" not in lead:
        return "", ""  # what a server answers
    purpose = as_purpose(purpose_of(place.section, code, before))
    is_order = lead.lower().startswith(purpose.partition(" ")[0])  # `Edit mailcow.conf:` is no purpose of a setting
    return lead, "" if is_order or POINTS.search(purpose) else purpose


def _is_shown(setting: Setting) -> bool:
    """Whether a question can ask what the example gives it."""
    value, name = _plain(setting.value), _name(setting)
    if not value or setting.is_listed or setting.is_off or len(value) > VALUE or len(name) > NAME:
        return False
    if not TEXTS.isdisjoint(map(str.lower, setting.path)) or sum(map(str.isalpha, value.split())) > TEXT:
        return False
    is_name = len(setting.path) > 1 or not name.islower() or any(sign in name for sign in "_-.")  # no `image`
    is_value = any(map(str.isalnum, value)) and value[0] not in "[{|>&"
    return is_name and is_value and PLACEHOLDER.search(value) is None and value.lower() not in name.lower()


def _plain(value: str) -> str:
    return value.strip().strip("\"'").replace("`", "'")
