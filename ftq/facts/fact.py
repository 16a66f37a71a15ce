"""What one place of a document states: the unit that is counted, worded and compared."""

from __future__ import annotations

from dataclasses import dataclass, field

RULES = {
    "T": "table rows",
    "O": "headings that are code, and the sentence below",
    "D": "definitions: **X**: ..., `x` - ..., definition lists",
    "C": "code with what introduces it; commands with comments; two columns",
    "Q": "headings that are questions; Q: and A:",
    "L": "lists under a line that ends in a colon",
    "H": "headings and their first sentences",
    "S": "sentences that state a purpose, a condition or what something is",
    "P": "plain sentences: whether, which, how many, and their keywords",
    "B": "sentences with a term blanked",
    "F": "front matter",
    "K": "settings in code: what their comments and examples say; defaults",
    "J": "JSON of other shapes",
    "N": "what the documents don't say",
    "W": "questions that a language model wrote",
}
ALL = frozenset(RULES)
SILENT = "N"  # the rule whose questions the documents don't answer


@dataclass(frozen=True, slots=True)
class Cut:
    """What no fact was made of, because a limit was reached there: so many rows, sentences or values."""

    file: str
    line: int
    what: str
    count: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(slots=True, unsafe_hash=True)  # nobody changes one; `frozen` would make it three times as slowly
class Fact:
    """`subject` has `value` for `relation`; `attribute` names which one where the relation has several.

    Relations: attribute (a table's or an object's), item (one of several in a cell), meaning, command (a purpose and
    its code), answer (a question's), list, lead (a heading's first sentences), purpose, condition, term (blanked in its
    sentence), page, default (where it is told, `attribute` says of what in words), set (by an example, for what
    `attribute` says), said (a whole sentence; `attribute`
    is the part of it that can be asked after, `kind` the heading that it needs).
    """

    subject: str
    relation: str
    value: str
    sentence: str  # of the document, whole; empty where none states it
    path: tuple[str, ...]  # of headings, outermost first
    file: str
    line: int
    rule: str
    attribute: str = ""
    kind: str = ""  # what the subject is: the header above it
    caption: str = ""  # of a table's row: what is written above the table
    key: str = field(init=False, repr=False, compare=False)  # what tells a fact from all others

    def __post_init__(self) -> None:
        self.key = f"{self.file}:{self.line}:{self.rule}:{self.relation}:{self.attribute}:{self.subject}"

    def __reduce__(self) -> tuple[type[Fact], tuple[object, ...]]:
        """Facts go between processes: pickle's own way for slots is slow."""
        about = (self.path, self.file, self.line, self.rule, self.attribute, self.kind, self.caption)
        return Fact, (self.subject, self.relation, self.value, self.sentence, *about)
