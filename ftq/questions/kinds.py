"""What kind of thing a value is, so that a question can ask how long, where or which option; which templates fit."""

from __future__ import annotations

import re
from functools import lru_cache

from ftq.facts.checks import RECENT, known_words
from ftq.facts.fact import Fact
from ftq.facts.rules.defaults import REQUIRED
from ftq.facts.rules.english import SAYS, as_purpose, as_serving
from ftq.facts.rules.prose import IN_WORDS
from ftq.questions.wordings import Language

INDIRECT = re.compile(r"(?:How|Why|What|When|Where|Who|Which) \w")
UNIT = re.compile(
    rf"(?:[-+~<>≤≥]?\s?\d[\d.,]*\s?|{IN_WORDS} )(?:"
    r"(?P<duration>ms|s|sec|min|h|hrs?|(?:milli|micro)?seconds?|minutes?|hours?|days?|weeks?|"
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
CELLS = ("cell", "task")  # relations whose attribute is a header, in quotes
COUNTED = re.compile(r"(maximum |max\.? )?(?:total )?number of (\w[^,;:(]*)$", re.IGNORECASE)
WHOSE = re.compile(r" (?:that|which) (?=\w)")
TYPE = re.compile(  # of values; a gauge or a counter is of another type
    r"\b(?:str(?:ing)?s?|text|int(?:eger)?s?\d*|uint\d*|numbers?|bool(?:ean)?s?|floats?\d*|doubles?|decimals?|dates?|times?|"
    r"datetimes?|durations?|timestamps?|lists?|arrays?|sets?|tuples?|maps?|dict(?:ionary)?|objects?|records?|structs?|enums?|"
    r"paths?|files?|directory|urls?|uris?|chars?|bytes?|any|null|none|uuids?|json|email|binary|varchar|unions?|regexp?|functions?|callable|pointer)\b|\[\]",
    re.IGNORECASE,
)
VAGUE = re.compile(
    r"`[a-z]{1,14}`|\A[<>≤≥~]?\s?\d.{0,40}|\b(?:it|this|that|these|they|those|its|such)\b"
)  # `15+ years`
TELLING = 5  # characters
VOWEL = re.compile(r"(?i:(?!uni|use|url|usa|eu|one|once|ut|ub)[aeiou]|ho(?:ur|nest))|[FHLMNRSX](?=[A-Z])")
NAMES = known_words("names")  # headers that say no more than that something is called so
OF_ONE = re.compile(r" (?:for|in|of|on|with) ")
PEOPLE, SIGNS = known_words("people"), "\"'“”’(),"
SINGULAR = frozenset({"lens", "series", "species", "news", "means", "https", "axis", "yes", "always", "does", "has"})
NEEDED = {"required": True, "mandatory": True, "optional": False}
_CURRENCY = "USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|BRL|MXN|ZAR|[$€£¥]"
_UNIT = "[mk]?g|lbs?|oz|[mck]?m|ft|m?l|h|min|m?s|k?Wh?|V|A|%"
MEASURED = re.compile(  # a header with its unit: `Price GBP`, `Weight (kg)`
    rf"(\w[^()\[\]]*?) (?:in )?(?:({_CURRENCY})|[(\[](?:in )?({_CURRENCY}|{_UNIT})[)\]])"
)
CALLED = ("option", "variable", "command", "setting")
YES_NO = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@lru_cache(RECENT)
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


def relation_of(fact: Fact, language: Language) -> str:
    """Which templates: some relations have two kinds where the language tells them apart."""
    match fact.relation:
        case "attribute" if fact.rule == "L" and language.has("task"):
            return "task"
        case "attribute" if _is_own(fact) and language.has("figure"):
            return "attribute" if ["", *fact.attribute.lower().split()][-1] in language.nouns else "figure"
        case "attribute" if language.has("cell"):
            attribute = measured(fact.attribute)[0].lower()
            is_typed = TYPE.search(fact.value) or (fact.subject.startswith("`") and fact.value.startswith("`"))
            if fact.attribute.lower() == "type" and is_typed:
                return "type"
            if fact.attribute.lower() in language.adjectives and kind_of(fact.value) == "yes_no":
                return "adjective"
            last = attribute.split()[-1:] or [""]
            if fact.rule == "J" and (kind_of(fact.value) == "yes_no" or last[0] in SAYS):
                return "cell"  # `is active: true`, `weighs: 3`
            is_noun = last[0] in language.nouns and len(attribute.split()) <= 3
            if not (is_noun or fact.rule == "J" or _is_count(fact, language)):
                return "cell"
            if not (language.has("count") and is_plural(attribute)):
                return "attribute"
            return "count" if _is_count(fact, language) else "several"
        case "meaning" if language.has("code") and fact.subject.startswith("`"):
            return "code"
        case "meaning" if language.has("told") and not _defines(fact.value, language):
            return "told"
        case "command" if language.has("code_for") and not as_purpose(fact.subject):
            return "code_for"
        case "lead" if language.has("purpose") and as_purpose(fact.subject):
            return "purpose"
        case "set" if language.has("set_for") and fact.attribute:
            return "set_for"
        case "list" if language.has("purpose") and fact.subject.startswith("To ") and as_purpose(fact.subject):
            return "purpose"
        case "lead" if language.has("indirect") and INDIRECT.match(fact.subject):
            return "indirect"
        case relation:
            return relation


def _is_own(fact: Fact) -> bool:
    """Whether the thing that the section is on has it: `Weight: 87 kg`."""
    return fact.rule == "D" or (fact.rule == "T" and not fact.kind and fact.subject in fact.path)


def _defines(value: str, language: Language) -> bool:
    """Whether a value says what something is, where nouns are written large: `ein Gerät`, `Geräte für Wasser`."""
    return value[:1].isupper() or value.partition(" ")[0] in language.word("articles").split()


def ways(fact: Fact, relation: str, language: Language, form: str) -> list[str]:
    """How to ask, of what kind only where that is known.

    `Betrag von „Pacht“?` is right for attributes that are nouns: no `Wie von`, no `Fällig am von`.
    """
    last = fact.attribute.rpartition(" ")[2]
    is_noun = last[:1].isupper() and fact.attribute.lower() not in language.word("no_nouns").split()
    all_ways = [*language.templates(relation, form), *(language.own(relation, f"{form}_noun") if is_noun else [])]
    return all_ways if kind_word(fact, language) else [way for way in all_ways if "{kind}" not in way]


def _is_count(fact: Fact, language: Language) -> bool:
    return language.has("count") and is_plural(fact.attribute) and kind_of(fact.value) == "number"


def kind_word(fact: Fact, language: Language) -> str:
    """What the subject is called: by the header above it, by its form, else a term."""
    kind, is_english = "" if fact.kind.lower() in NAMES else fact.kind, language.code == "en"
    kind = kind or (called(fact.subject) if is_english and fact.relation == "meaning" else "")
    return (lowered(kind) if kind and is_english else kind) or language.word("kind")


def called(subject: str) -> str:
    """What a question calls a piece of code: an option, a command; empty for others."""
    kind = kind_of(subject) if subject.startswith("`") else ""
    return kind if kind in CALLED else ""


def is_needed(fact: Fact) -> bool | None:
    """Whether it has to be given; None where the fact says something else."""
    return NEEDED.get(fact.value.lower()) if fact.attribute == REQUIRED else None


def described_form(fact: Fact) -> tuple[str, str]:
    """How a default is asked for by what it is of: (its templates, what stands in them)."""
    counted, purpose = COUNTED.match(fact.attribute), as_serving(fact.attribute)
    if counted and " to " not in counted[2]:
        return "counted_most" if counted[1] else "counted", WHOSE.sub(" ", counted[2], count=1)
    return ("does", purpose) if purpose and is_yes(fact.value) is not None else ("described", "")


def is_yes(value: str) -> bool | None:
    """What a value says of whether something is on; None for others."""
    return YES_NO.get(value.strip("`\"'").lower())


def is_telling(value: str) -> bool:
    """Whether a value tells what has it: an address or a path, no number and no switch."""
    return len(value.strip("`")) >= TELLING and kind_of(value) not in ("number", "yes_no", "version")


def is_vague(fact: Fact) -> bool:
    """Whether the question is clear under its heading only: `callback`, or a line above code or a list."""
    if fact.relation in ("list", "command") and fact.rule != "N":
        return not as_purpose(fact.subject)
    if fact.relation == "condition" or (fact.relation == "lead" and INDIRECT.match(fact.subject)):
        return VAGUE.search(fact.subject) is not None
    return fact.relation in ("meaning", "default") and VAGUE.fullmatch(fact.subject) is not None


def with_article(text: str, kind: str) -> str:
    """`Is there a option` with its article, `an option`."""
    return text.replace(f" a {kind}", f" an {kind}", 1) if VOWEL.match(kind) else text


def who_of(subject: str) -> str:
    """How one asks for a subject: who, what; who or what for a name."""
    first, _, last = subject.rpartition(" ")
    last = last.strip(SIGNS)
    if last.lower() in PEOPLE and not first.partition(" ")[0].endswith("ing"):
        return "Who"
    is_name = last[:1].isupper() and "`" not in subject and (first or not last[1:].islower())
    return "Who or what" if is_name else "What"


def plural(text: str, subject: str) -> str:
    """`What are settings?`"""
    if is_plural(subject):
        is_one = " " in subject and (not subject.islower() or OF_ONE.search(subject))  # `JSON Lines`, `menu of options`
        text = text if is_one else text.replace(f"Where does {subject}", f"Where do {subject}")
        for one, many in (("What is ", "What are "), ("What does ", "What do ")):
            if text.startswith(f"{one}{subject}"):
                return many + text[len(one) :]
    return text


def is_plural(name: str) -> bool:
    """`settings`, `battery cells`; no `status`, no `DNS`, no code."""
    last = name.rpartition(" ")[2]
    is_word = len(last) > 3 and last[:1].isalpha() and last[1:].islower() and last not in SINGULAR
    is_short = len(last) > 2 and last[:-1].isalpha() and last[:-1].isupper()  # `LEDs`
    return (is_word or is_short) and last.endswith("s") and not last.endswith(("ss", "us", "is", "as", "ies's"))


def measured(attribute: str) -> tuple[str, str]:
    """(What a header names, its unit; empty where it has none)."""
    match = MEASURED.fullmatch(attribute)
    return (match[1], match[2] or match[3]) if match else (attribute, "")


def english(attribute: str) -> str:
    """A header inside a sentence: `price in GBP`."""
    name, unit = measured(attribute)
    return f"{lowered(name)} in {unit}" if unit else lowered(name)


def lowered(text: str) -> str:
    """`Default value` is `default value` inside a sentence; `URL` and `iOS` stay."""
    return text[0].lower() + text[1:] if text[1:].islower() and not text.startswith("`") else text
