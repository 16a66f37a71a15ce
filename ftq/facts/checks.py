"""What stops garbage: is this a sentence, is this a subject, is this part worth reading?"""

from __future__ import annotations

import re

WORDS = 45  # of a sentence at most
LETTERS = re.compile(r"[^\W\d_]")
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
CODE = re.compile(r"`[^`]{0,500}`")

# Words that point at something said before.
POINTING = frozenset(["this", "that", "these", "those", "it", "its", "they", "them", "such", "also", "however", "therefore", "thus", "instead", "otherwise", "then", "so", "but", "and", "or", "nor", "yet", "here", "there", "he", "she", "his", "her", "their", "both", "either", "neither", "again", "finally", "additionally", "moreover", "furthermore", "similarly", "meanwhile", "still", "consequently", "hence", "likewise", "alternatively", "conversely", "rather", "which", "who", "where", "see", "first", "second", "third", "next", "lastly", "another", "i", "we", "our", "my", "below", "above", "note", "remember", "dies", "dieser", "diese", "dieses", "es", "sie", "er", "auch", "jedoch", "daher", "dann", "aber", "und", "oder", "dabei", "dadurch", "damit", "hier", "cela", "ceci", "ce", "cette", "ces", "il", "elle", "ils", "elles", "aussi", "cependant", "donc", "puis", "mais", "et", "ou", "ici", "esto", "esta", "este", "estos", "estas", "también", "pero", "y", "o", "entonces", "así", "aquí", "questo", "questa", "questi", "anche", "però", "quindi", "e", "qui", "isto", "isso", "este", "também", "mas", "então", "aqui", "dit", "dat", "deze", "dus", "maar", "en", "ook", "hier", "to", "ten", "ta", "te", "również", "jednak", "więc", "ale", "i", "tutaj", "это", "этот", "эта", "эти", "он", "она", "оно", "они", "также", "однако", "поэтому", "но", "и", "здесь"])  # fmt: skip

# Headings that name no thing: the one above stands for them.
EMPTY = frozenset("""
    note|notes|example|examples|changes|behavior|behaviour|default|defaults|usage|output|input|see also|overview|
    introduction|summary|description|details|warning|tip|info|important|caution|remarks|options|arguments|parameters|
    parameter|properties|returns|return value|return values|result|results|syntax|synopsis|basic usage|quick example|
    more|other|others|miscellaneous|misc|general|advanced|basics|background|motivation|limitations|requirements|
    prerequisites|configuration|setup|installation|commands|flags|environment|files|table|list|type|types|values|value|
    name|key|yes|no|true|false|none|n/a|required|optional|todo|tldr|tl;dr|step|steps|before|after|
    beispiel|beispiele|hinweis|übersicht|einleitung|optionen|verwendung|ausgabe|
    exemple|exemples|remarque|aperçu|utilisation|ejemplo|ejemplos|nota|uso|descripción|esempio|esempi|panoramica|
    exemplo|exemplos|visão geral|voorbeeld|voorbeelden|opmerking|overzicht|przykład|przykłady|uwaga|użycie|
    пример|примеры|примечание|обзор|示例|例子|注意|概述|用法|例|概要|使い方
""".replace("\n", "").replace("    ", "").split("|"))  # fmt: skip

# Sections that teach nothing.
NAVIGATION = frozenset("""
    what's next|whats next|what next|next steps|next step|see also|table of contents|contents|toc|on this page|
    related|related pages|related topics|further reading|references|links|resources|license|licence|licenses|
    contributors|contributing|acknowledgements|acknowledgments|credits|sponsors|changelog|change log|release notes|
    releases|badges|history|authors|copyright|support us|star history|where to go next|learn more|
    inhalt|inhaltsverzeichnis|lizenz|siehe auch|table des matières|voir aussi|licence|tabla de contenidos|
    véase también|indice|vedi anche|índice|veja também|inhoud|zie ook|spis treści|zobacz też|содержание|см. также|
    目录|目次|関連項目|参见
""".replace("\n", "").replace("    ", "").split("|"))  # fmt: skip

NO_SUBJECT = frozenset(["if", "when", "to", "each", "all", "every", "any", "some", "while", "until", "unless", "because", "since", "as", "for", "with", "without", "in", "on", "at", "by", "from", "of", "how", "why", "what", "where", "who", "which", "whether", "don't", "do", "does", "did", "is", "are", "was", "were", "be", "can", "could", "should", "would", "may", "might", "must", "wenn", "falls", "um", "zu", "jede", "jeder", "si", "quand", "pour", "chaque", "para", "cuando", "cada", "se", "quando", "per", "ogni", "als", "om", "elke", "jeśli", "gdy", "aby", "если", "когда", "чтобы", "каждый", "not", "no", "only", "please", "let"])  # fmt: skip
GENERATED = re.compile(r"@generated|(?:auto|automatically)[ -]?generated|do not edit", re.IGNORECASE)
VERSION = re.compile(r"\[?v?\d{1,4}[.\d-]*[\w.+-]{0,20}\]?(?:\s*[-–(].{0,40})?")


def words(text: str) -> int:
    """How many words; in Chinese and Japanese two characters count as one."""
    wide = len(CJK.findall(text)) if not text.isascii() else 0
    return len(text.split()) + wide // 2


def is_sentence(text: str) -> bool:
    """A whole sentence that can be understood alone."""
    return is_readable(text) and not points(text) and 4 <= words(text) <= WORDS and text[0] not in "|#>-*"


def is_readable(text: str) -> bool:
    """More letters than signs, and no colon at its end that something else must follow."""
    if not text or text.rstrip("`*_ ").endswith((":", "：", "…", "...", "?", "？")):
        return False
    prose = CODE.sub("", text) if "`" in text else text
    letters = len(LETTERS.findall(prose))
    if letters * 2 < len(prose.replace(" ", "")) or text.count('"') % 2 or text.count("`") % 2:
        return False
    return "http://" not in prose and "https://" not in prose and text.count("(") == text.count(")")


def points(text: str) -> bool:
    """Whether the sentence begins with a word that points at something said before."""
    first = text.split(None, 1)[0] if text.strip() else ""
    return first.strip(",.:;'\"()").lower().partition("'")[0] in POINTING


def is_subject(text: str, longest: int = 6) -> bool:
    """A name or a noun phrase that a question can ask about."""
    plain = text.strip("`*_ \"'()")
    parts = plain.split()
    if not plain or len(text) > 70 or len(parts) > longest or plain.lower() in EMPTY:
        return False
    if LETTERS.search(plain) is None or plain[-1] in ".!?:;,？！。" or VERSION.fullmatch(plain):
        return False
    if text.startswith("`") and text.endswith("`") and text.count("`") == 2:
        return "://" not in text
    if parts[0].lower() in NO_SUBJECT or parts[0].lower() in POINTING or any(sign in plain for sign in "\\{}<>|=;\n"):
        return False
    return not (len(parts) == 1 and plain.islower() and plain.endswith("s") and plain.isascii())


def is_navigation(path: tuple[str, ...]) -> bool:
    """A section that leads elsewhere, names people or lists versions."""
    return any(
        name.strip(" :.?!…").lower().replace("’", "'") in NAVIGATION or VERSION.fullmatch(name.strip("# "))
        for name in path
    )


def is_generated(source: str) -> bool:
    """A file that says in its first lines that a program wrote it for programs."""
    return GENERATED.search(source[:400]) is not None and "#" not in source[:2]


def alike(text: str) -> frozenset[str]:
    """Equal for sentences that differ in signs, case and order only."""
    return frozenset(re.findall(r"\w+", text.lower()))
