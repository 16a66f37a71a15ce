"""`The pump weighs 3 kg.` answers `How much does the pump weigh?`: by the verb and the unit of the figure behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftq.facts.rules.english import GERUNDS, Clause
from ftq.facts.rules.prose import IN_WORDS

NUMBER = r"\d(?:[\d.,]*\d)?"
BOUND = (
    r"(?:(?:up to|at (?:least|most)|an? (?:maximum|minimum|average|total) of|(?:more|less) than|about|around|"
    r"approximately|roughly|only|just|over|almost|nearly|between) )?"
)
FIGURES = rf"(?:{NUMBER}|{IN_WORDS})(?:\s?(?:to|or|and|by|x|×|[-–])\s?(?:{NUMBER}|{IN_WORDS}))?"
WEIGHT = r"(?:mg|g|kg|t|lbs?|oz|(?:kilo|milli)?gram(?:me)?s?|kilos|tons?|tonnes?|pounds?|ounces?)"
TIME = (
    r"(?:(?:business |working |calendar |full )?"
    r"(?:ms|s|min|h|(?:milli|micro)?seconds?|minutes?|hours?|days?|weeks?|months?|years?))"
)
VOLUME = r"(?:ml|cl|l|L|m³|(?:milli|centi)?lit(?:re|er)s?|gallons?|pints?)"
LENGTH = r"(?:mm|cm|m|km|m²|(?:square )?(?:milli|centi|kilo)?met(?:re|er)s?|inch(?:es)?|feet)"
MONEY = r"(?:€|\$|£|[Ee]uros?|EUR|USD|GBP|CHF|dollars?|francs?|pounds?|cents?)"
BYTES = r"(?:[KMGT]i?B|bytes)"


def _amount(unit: str, *, sign_first: bool = False) -> re.Pattern[str]:
    """A figure with this unit, what it is of, and what follows."""
    figure = rf"(?:{FIGURES}\s?{unit}{'|[€$£] ?' + NUMBER if sign_first else ''})(?![\w/²³])"
    return re.compile(rf"{BOUND}{figure}(?: of (?P<thing>[A-Za-z]+))?(?P<rest> .+)?")


OF = _amount(rf"(?:{VOLUME}|{WEIGHT}|{BYTES})")
TIMES = _amount(TIME)
# verb: what stands behind it, what is asked, and what is where the figure is of something
ASKED = {
    "weigh": [(_amount(WEIGHT), "How much", "")],
    "cost": [(_amount(MONEY, sign_first=True), "How much", "")],
    "last": [(TIMES, "How long", "")],
    "take": [(TIMES, "How long", ""), (OF, "", "How much {}")],
    "need": [(TIMES, "How long", ""), (OF, "", "How much {}")],
    "hold": [(OF, "How much", "How much {}")],
    "measure": [(_amount(LENGTH), "What", "")],
}
# What may follow: the question takes it over whole. No `longer than`, no other verb.
FOLLOWS = re.compile(
    r" (?:a|an|per|for|to|in|at|on|with|without|by|after|before|from|until|under|during|each|when|if|unless|while|once|"
    r"including|excluding)\b[^,;:()—–]*"
)
ANOTHER = re.compile(r"\b(?:and|or|but|so|that|which|who|than|because)\b|[.!?]\s")
BETWEEN = frozenset({"usually", "normally", "typically", "always", "currently", "now", "also", "still", "only"})
NO_SUBJECTS = re.compile(
    r"(?:it|they|this|that|these|those|he|she|there|both|one|everything|something|nothing|all|which|what)\b",
    re.IGNORECASE,
)
SUBJECT = 6  # words


def amount_in(clause: Clause) -> Iterator[str]:
    """The question on the amount that the clause states of its subject; none where it states another thing too."""
    subject, (verb, _, end) = clause.subject, clause.rest.partition(" ")
    while verb in BETWEEN:  # `usually takes 5 days`
        verb, _, end = end.partition(" ")
    if subject.partition(" ")[0].lower() in GERUNDS:  # no name: `Saving the log takes 2 minutes`
        subject = subject[0].lower() + subject[1:]
    if clause.is_negative or NO_SUBJECTS.match(subject) or subject.count(" ") >= SUBJECT:
        return
    for amount, asked, of_thing in ASKED.get(verb, ()):
        if match := amount.fullmatch(end):
            thing, rest = match["thing"], match["rest"] or ""
            words = of_thing.format(thing) if thing else asked
            if words and (not rest or (FOLLOWS.fullmatch(rest) and not ANOTHER.search(rest))):
                yield f"{words} {clause.auxiliary} {subject} {verb}{rest}{clause.tail}?"
            return
