"""The little grammar that English needs: verbs, so that a purpose becomes a question."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ftq.facts.checks import is_closed, known_words, points_inside

VERBS, NOUNS, DETERMINERS = known_words("verbs"), known_words("nouns"), known_words("determiners")

ATTRIBUTIVE, ATTRIBUTED = known_words("attributive"), known_words("attributed")
STRESSED, MORE_VERBS = known_words("stressed"), known_words("more_verbs")


def _gerund(verb: str) -> str:
    if verb.endswith("e") and not verb.endswith(("ee", "ye")):
        return verb[:-1] + "ing"
    doubled = re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]", verb) and not verb.endswith(("ok", "el"))
    return verb + (verb[-1] if doubled or verb in STRESSED else "") + "ing"


def _third(verb: str) -> str:
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return f"{verb[:-1]}ies"
    return f"{verb}es" if verb.endswith(("s", "sh", "ch", "x", "o")) else f"{verb}s"


GERUNDS = {_gerund(verb): verb for verb in sorted(VERBS)}
# `The broker keeps ...`: what follows a subject, and is no noun in the plural.
THIRD_PERSON = {_third(verb) for verb in VERBS - NOUNS} | {
    "keeps", "makes", "uses", "holds", "runs", "returns", "takes", "gets", "gives", "goes", "means", "says", "writes",
    "reads", "starts", "stops", "shows", "sends", "waits", "knows", "becomes", "works", "contains", "provides",
}  # fmt: skip
OF = re.compile(r" (?:for|of|in|on|with|by|from|to) ")
PARTICLES = frozenset({"up", "out", "off", "down", "in", "on", "started"})  # `Setting Up`
DANGLING = re.compile(
    r"\b(?:the|an?|and|or|of|for|with|from|into|than|like|e\.g)$|\b(?:like so|follows)$", re.IGNORECASE
)
ANOTHER = re.compile(r"(?<=\band )\w+ing\b|(?<=\bor )\w+ing\b")  # `Pausing and resuming a run`
SAYS = THIRD_PERSON | MORE_VERBS
TAKES_TWO = re.compile(r"\s(?:you|we|i|they|it|he|she)\s", re.IGNORECASE)
YOU_DO = re.compile(r"\byou (?:must|should|need|have to|will|may|can|could|first)\b")
KINDS, HAVE = known_words("kinds"), ("has", "have", "had")
PARTICIPLES, AFTER_PERFECT = known_words("participles"), known_words("prepositions") | DETERMINERS | {""}
ADDRESSED = re.compile(r"(?<=[a-z] )you(?= (?:to|with|about|when|from|if)\b|[.,;?!]|$)")
AUXILIARIES = known_words("auxiliaries")
NEGATIVE = re.compile(r"(?P<auxiliary>is|are|was|were|ca|could|must|should|wo|would|do|does)n['’]t|(?P<can>can)not")
BREAKS = known_words("breaks")
ENDS_SUBJECT, IN_SUBJECT = BREAKS - {"you", "it", "they", "this"}, BREAKS - {"it", "they", "this"}
BETWEEN, ARTICLES = known_words("between"), known_words("articles")
LEADING = re.compile(r"(?P<lead>[A-Z][^,;:()]{2,80}), (?:then )?(?P<main>(?:[a-z`]|[A-Z]).+)")
CONDITIONS = known_words("conditions")
ADVERBIAL = CONDITIONS | {"as", "under", "within", "upon", "throughout", "behind"}
ORDERS, ORDERED = VERBS - NOUNS, DETERMINERS | {"sure", "certain"}
BY_DEFAULT = re.compile("^By default (?=\\w|`)")
NO_LEAD = re.compile(
    r"(?:For (?:example|instance)|In (?:addition|other words|fact|that|this|short|general)|If (?:so|not))\b"
)
NO_SUBJECT_END = ARTICLES | {"to", "and", "or", "of", "in", "on", "by", "for", "with", "as"}
ANYTHING = frozenset({"anyone", "anybody", "anything", "everyone", "everybody", "everything", "someone", "something"})
# Adjectives at the start of a phrase, and what follows where they are verbs.
MAY_DESCRIBE = {"free": DETERMINERS | ARTICLES | {"disk", "memory", "space", "up"}}
DENIED = frozenset({"nobody", "nothing", "none", "neither", "no"})  # `Does nobody run it?`: yes or no may mean both
DEEPEST = 9  # words before the verb
NOT_SOON = re.compile(r"(?:\w+ )?(?:not|never) ")
MORE_CLAUSES = re.compile(r"(?P<end>, (?:but|so|which|because|as|since)\b|[:;] )|(?:,? (?:and|or) |, )(?P<word>\w*)")
CODE = re.compile(r"`[^`]*`")


def as_purpose(text: str, is_verb: bool = False) -> str:
    """`Submitting a run`, `Submit a run`, `How to submit a run` -> `submit a run`; else empty.

    `is_verb`: the first word is known to be a verb, for `to` stood before it.
    """
    text = text.strip().rstrip(".:")
    lowered = text.lower()
    for start in ("how to ", "how do i ", "you can ", "to "):
        if lowered.startswith(start):
            text, is_verb = text[len(start) :], True
            break
    first, _, rest = text.partition(" ")
    verb = GERUNDS.get(first.lower()) or (first.lower() if first.lower() in VERBS else "")
    if (
        not verb
        or not rest
        or rest.lower() in PARTICLES
        or len(text.split()) > 14
        or (TAKES_TWO.search(f" {rest} ") and "you" not in rest)
    ):
        return ""
    if "you" in rest and YOU_DO.search(rest):
        return ""  # `To solve this you must`
    if not is_verb and verb not in ("set", first.lower()) and _is_kind(rest):
        return ""  # `Training guides`
    if verb == first.lower() and rest.split()[0].lower() in {"is", "are", "of", "for", "and", "or", "has", "was", "in"}:
        return ""  # a noun: `Release of ...`, `Cache and ...`
    if not is_verb and first.lower() in ATTRIBUTIVE and OF.split(rest.lower(), maxsplit=1)[0] in ATTRIBUTED:
        return ""  # `Opening hours`, `Blocking mode for DNS rules`
    if DANGLING.search(text) or points_inside(text) or not is_closed(text):
        return ""  # `Format the`, `Use these fields like so`
    if not is_verb and describes(first.lower(), rest):
        return ""  # `Free shipping`
    is_noun = verb == first.lower() and verb in NOUNS and not is_verb
    if is_noun and rest.split()[0].lower() not in DETERMINERS and not rest.startswith("`"):
        return ""  # `Test prompts`
    if verb != first.lower() and any(word.lower() not in GERUNDS for word in ANOTHER.findall(rest)):
        return ""  # `Blocking and allowlisting`: whose verb isn't known
    return f"{verb} {ANOTHER.sub(lambda word: GERUNDS.get(word[0].lower(), word[0]), rest)}"


def describes(word: str, rest: str) -> bool:
    """Whether what may be a verb is an adjective: `Free parking behind the house`; no `Free the bed`."""
    return word in MAY_DESCRIBE and rest[:1] != "`" and rest.split()[0].lower() not in MAY_DESCRIBE[word]


def _is_kind(text: str) -> bool:
    """What follows a gerund that only says of which kind it is: `guides`, `configuration options`."""
    parts = text.lower().split()
    return len(parts) <= 2 and parts[0] not in DETERMINERS and parts[-1] in KINDS


def bare(verb: str) -> str:
    """`stores` is `store`, `does` is `do`, `catches` is `catch`."""
    if verb == "has":
        return "have"
    for end, bare in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x"), ("oes", "o")):
        if verb.endswith(end):
            return verb[: -len(end)] + bare
    return verb[:-1]


def as_mine(text: str) -> str:
    """`create your own token` asked by the reader: `create my own token`."""
    if "you" not in text:
        return text
    text = re.sub(r"\byour(self)?\b", lambda match: "myself" if match.group(1) else "my", text)
    text = re.sub(r"\byou (?:are not|aren['’]t)\b", "I'm not", re.sub(r"\byou weren['’]t\b", "I wasn't", text))
    text = re.sub(r"\byou(?:['’]re| are)\b", "I'm", text)
    text = re.sub(
        r"\b(with|for|to|lets?|tells?|allows?|gives?|helps?|of|from|enables?|shows?|lead|require) you\b", r"\1 me", text
    )
    text = ADDRESSED.sub("me", text)
    return re.sub(r"\byou\b", "I", text)


def as_serving(text: str, is_verb: bool = False) -> str:
    """What a description says that its subject does: `Shows the log` and `show the log` are `show the log`.

    `is_verb`: it is a command's, so that it begins with a verb.
    """
    first, _, rest = text.partition(" ")
    verb, lowest = first.lower(), re.split(r"[.;:(,]| — | - ", rest)[0].strip()
    is_third = verb in SAYS and verb not in ("has", "is", "means", "needs")
    plain = bare(verb) if is_third else as_purpose(f"{first} {lowest}", is_verb).partition(" ")[0]
    is_whole = (
        1 < len(lowest.split()) <= 12 and lowest.count("`") % 2 == 0 and not lowest.endswith((" a", " the", " of"))
    )
    return as_mine(f"{plain} {lowest}") if plain and is_whole else ""


@dataclass(frozen=True)
class Clause:
    """`subject` `auxiliary` `rest`, with what stands before it; a main verb has `does` and its bare form."""

    lead: str
    subject: str
    auxiliary: str
    rest: str
    is_negative: bool
    verb: str = ""  # as the sentence has it, where the auxiliary isn't in it
    end: str = ""  # what follows such a verb

    @property
    def short(self) -> str:
        """The rest up to where another clause or another verb begins."""
        return first_clause(self.rest, is_third=bool(self.verb))

    @property
    def tail(self) -> str:
        return f" {self.lead[0].lower()}{self.lead[1:]}" if self.lead else ""


def clause_of(sentence: str) -> Clause | None:
    """The main clause, if its subject and verb can be told apart."""
    lead, text = led(sentence)
    if text == "":
        return None
    codes = CODE.findall(text) if "`" in text else []
    words = (CODE.sub("\0", text) if codes else text).split(" ")
    for number, word in enumerate(words[1 : DEEPEST + 1], start=1):
        plain = word.lower()
        if words[number - 1].lower() in ENDS_SUBJECT or words[number - 1][-1:] in ",;:—)":
            return None
        if plain in AUXILIARIES or NEGATIVE.fullmatch(plain) or (plain in HAVE and _is_perfect(words, number)):
            return _with_auxiliary(lead, words, number, codes)
        if _is_verb(words, number):
            return _with_verb(lead, words, number, codes)
    return None


def led(sentence: str) -> tuple[str, str]:
    """(what stands before the main clause, the clause): `When X, Y`. Both empty for what points elsewhere."""
    text = sentence.rstrip(".!")
    text = BY_DEFAULT.sub("By default, ", text)
    match = LEADING.fullmatch(text)
    if match is None or match["lead"].split()[0].lower() not in CONDITIONS:
        return "", text
    is_no_lead = NO_LEAD.match(text) or "—" in match["lead"] or match["main"].startswith(("and ", "or ", "but "))
    return ("", "") if is_no_lead else (match["lead"], match["main"])


def _is_perfect(words: list[str], number: int) -> bool:
    """`has been changed`, `have moved to`: no `has limited memory`."""
    following, after = [word.lower() for word in [*words[number + 1 : number + 3], "", ""][:2]]
    return following in PARTICIPLES or (following.endswith("ed") and after in AFTER_PERFECT)


def _is_verb(words: list[str], number: int) -> bool:
    """`The worker sends`, `` `--wait` ends the``, `Smaller values increase the`: a verb after its subject."""
    word, before = words[number].lower(), words[number - 1]
    following = words[number + 1].lower() if number + 1 < len(words) else ""
    if before.lower() in NO_SUBJECT_END or not word.isalpha():
        return False
    if word in THIRD_PERSON or word in MORE_VERBS:
        return True
    if following not in DETERMINERS and following not in ARTICLES and following[:1] != "\0" and not following.isdigit():
        return False
    if word.endswith("s") and bare(word) in VERBS:
        return before == "\0" or (not before.endswith("s") and number > 1)
    return word in VERBS and before.endswith("s") and not before.endswith(("ss", "us", "is")) and before.isalpha()


def _with_auxiliary(lead: str, words: list[str], number: int, codes: list[str]) -> Clause | None:
    auxiliary, rest = words[number].lower(), words[number + 1 :]
    negative = NEGATIVE.fullmatch(auxiliary)
    is_negative = negative is not None
    if negative and (stem := negative["auxiliary"] or "can"):
        auxiliary = {"ca": "can", "wo": "will"}.get(stem, stem)
    if rest and rest[0] == "not":
        is_negative, rest = True, rest[1:]
    before = words[:number]
    while len(before) > 1 and before[-1].lower() in BETWEEN:
        before = before[:-1]
    return _made(lead, before, auxiliary, rest, is_negative, "", codes)


def _with_verb(lead: str, words: list[str], number: int, codes: list[str]) -> Clause | None:
    before, between = words[:number], ""
    if len(before) > 1 and before[-1].lower() in BETWEEN:
        before, between = before[:-1], before[-1]
    is_plural = words[number].lower() in VERBS
    verb = words[number].lower() if is_plural else bare(words[number].lower())
    rest = [between, verb, *words[number + 1 :]] if between else [verb, *words[number + 1 :]]
    auxiliary = "do" if is_plural else "does"
    return _made(lead, before, auxiliary, rest, between == "never", f"{between} {words[number]}".strip(), codes)


def _made(
    lead: str, before: list[str], auxiliary: str, rest: list[str], is_negative: bool, verb: str, codes: list[str]
) -> Clause | None:
    subject, after = " ".join(before), " ".join(rest)
    if not subject or not after or any(word.lower() in IN_SUBJECT for word in before):
        return None
    if not {"it", "them", "me", "us"}.isdisjoint(map(str.lower, before[1:])):  # `Plug it in and it reports`
        return None
    if len(before) == 1 and subject.lower() in ("it", "they", "this") and not lead:
        return None
    first = before[0].lower()
    is_adverbial = first in ADVERBIAL or (first.endswith("ly") and len(before) == 1)
    if first in DENIED or (first in VERBS and before[1:] and before[1].lower() in ORDERED):
        return None  # `Make sure the dates`
    if ("you" in before and len(before) > 1) or (not lead and (first in ORDERS or is_adverbial)):
        return None
    is_negative = is_negative or NOT_SOON.match(after) is not None
    after = after.removeprefix("never ")
    if codes:
        held = iter(codes)
        subject = re.sub("\0", lambda match: next(held, ""), subject)
        after = re.sub("\0", lambda match: next(held, ""), after)
    if subject.lower() == "you":
        subject = "I"
        auxiliary = "am" if auxiliary == "are" else auxiliary
    elif first in ARTICLES | ANYTHING or (before[0][1:].islower() and before[-1].endswith("s") and len(before) < 3):
        subject = subject[0].lower() + subject[1:]
    end = after.split(" ", len(verb.split()))[-1] if verb and len(after.split()) > len(verb.split()) else ""
    return Clause(lead, subject, auxiliary, after, is_negative, verb, end)


def first_clause(text: str, is_third: bool = False) -> str:
    """Up to `, and ...` or a colon; not inside a list. `is_third`: another third person begins another one."""
    for match in MORE_CLAUSES.finditer(text):
        before, word = text[: match.start()], match["word"] or ""
        is_verb = is_third and (word in ("is", "does", "has") or (word.endswith("s") and bare(word) in VERBS))
        is_clause = match.group().startswith((", and", ", or")) and "," not in before
        if match["end"] or is_verb or is_clause:
            return before
    return text
