"""What limits left out of the documents, by its kind, and what to do about it."""

from __future__ import annotations

from ftq.check.finding import Level
from ftq.examples.dataset import COMPARED, FACTS, WORDS
from ftq.examples.records.known import OPEN, SECTION
from ftq.facts.blocks import SAID
from ftq.facts.rules.data import API, HALF, LONG, QUESTION, TWICE
from ftq.facts.rules.terms import TOO_MANY
from ftq.facts.text.mdx import INSTEAD
from ftq.facts.text.mdx import UNKNOWN as EXPRESSION
from ftq.facts.text.plain import NOT_TEXT, UNCLOSED

# reason of ftq.questions -> what it means for whoever wrote the documents
DROPPED = {
    "two answers": ("question", "with two answers", "Say under which heading each holds, or keep one of the two."),
    "rows of a fact": ("row", "beyond the most of one fact", "Nothing to do: the fact is taught often enough."),
    "rows of a section": (
        "row",
        "beyond the most of one section",
        "Split long sections by headings, long tables into several.",
    ),
    "same answer": (
        "row",
        "left out: too many others have the same answer",
        "Nothing to do: more would teach that answer alone.",
    ),
    "unasked": (
        "fact",
        "left out: no question fits",
        "Say it in a sentence with who or what and does what, or in a table.",
    ),
    "cloze": ("sentence", "with a gap beyond their share", "Nothing to do: questions teach more."),
}
VALUES, MUCH = "value of JSON", 0.1  # from this share on it is worth a warning
LARGER = "Fine-tune on a part of the folder, or on its parts one after the other."
# by what they are, not by a limit
LEFT_OUT = (NOT_TEXT, UNCLOSED, TWICE, HALF, LONG, QUESTION, EXPRESSION, OPEN, API, SAID)
# what a limit left out -> what to do
LIMITED: dict[str, tuple[Level, str]] = {
    FACTS: ("note", f"Of each document a share is asked. {LARGER}"),
    SECTION: ("note", f"They are trained on as they are; questions are on the others. {LARGER}"),
    WORDS: ("warning", f"No question asks for what the documents don't say. {LARGER}"),
    COMPARED: ("note", "Look for contradictions in parts of the folder."),
    TWICE: ("warning", "Keep one of the two: as it is, neither is asked for."),
    HALF: ("note", "Write the character whole: \\ud83d alone is half of one."),
    NOT_TEXT: ("note", "Nothing to do: only text is taught. Alternative texts of pictures stay."),
    UNCLOSED: ("warning", "End the comment with -->: as it is, nothing after it is taught."),
    EXPRESSION: (
        "note",
        f"Write what it says: now {INSTEAD} stands for it, and nothing is asked of its sentence.",
    ),
    OPEN: ("note", "Write what {{ … }} stands for: nothing is asked of its sentence, its row or its item."),
    "row of a table that is too wide": ("note", "Split the table by columns, or save it as records."),
    "feature of front matter": ("note", "Write the others as headings with a sentence, or as a list."),
    "character of front matter": ("note", "Write into the page what is to be asked."),
    "row of a table": ("note", "Split the table under several headings, or save it as records."),
    TOO_MANY: ("note", "Put them under several headings, or save them as a table or as records."),
    LONG: ("note", 'Save each as {"text": "..."}, a document of its own, or ask for it in a record.'),
    SAID: ("note", "It is trained on as it stands. To teach its answers save it as messages with role and content."),
    API: ("note", "Nothing to do: what its operations, parameters and schemas are said to be is asked for."),
    QUESTION: ("note", "If it has an answer, call the two question and answer: then they are a record."),
    VALUES: ("note", "Split the file, or save as records what is to be asked."),
}
