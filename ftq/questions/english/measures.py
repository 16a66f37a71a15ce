"""What stands around a figure in an English sentence, and which unit it has."""

from __future__ import annotations

import re

from ftq.facts.rules.prose import IN_WORDS

UNITS = re.compile(
    rf"(?:\d[\d.,]*|{IN_WORDS})\s?((?:seconds|minutes|hours|days|weeks|months|years|bytes|bits|percent|lines|cores|tokens|"
    r"characters|times|steps))$",
    re.IGNORECASE,
)
SINGLE = re.compile(r"\d+[- ](?:second|minute|hour|day|week|month|year)$")  # `the 12 week period`
SEVERAL = re.compile(  # what is counted, with two words before it at most
    r"(?:(?!(?:a|an|and|as|at|by|for|from|if|in|is|of|on|or|per|so|than|to|up|was|with)\b)[a-z-]+ ){0,2}?[a-z]{3,}s\b"
)
UNIT = re.compile(r"(?!(?:a|an|and|as|at|by|for|if|in|of|on|or|per|so|to|up)\b)[^\W\d_][\w/²³.]{0,3}(?:\s|$)|[°€$£%]")
YEAR = re.compile(r"1[5-9]\d\d|20\d\d")
NUMBERED = re.compile(  # `listen on port 8080`
    r"(?P<before>.*?)\s?\b(?:(?P<preposition>in|to|from|at|on|with|by|for|under) )?(?:the )?"
    r"(?P<noun>chapter|channel|column|floor|level|line|page|port|row|step|version) $"
)
BOUND = re.compile(  # `holds up to 500 messages`
    r"\b(?:up to|at (?:least|most)|an? (?:maximum|minimum|average|total) of|no (?:more|less|fewer) than|"
    r"(?:more|less|fewer) than|about|around|approximately|roughly|only|over) $"
)
RANGE = re.compile(rf"(?:\d|\b{IN_WORDS})\s?(?:to |or |and |[-–]\s?)$")  # whose end alone says nothing
UNTIL = re.compile(r"\s?\b(?:for|in|within) $")
EVERY = re.compile(r"(?P<before>.*?)\s?\bevery $")
