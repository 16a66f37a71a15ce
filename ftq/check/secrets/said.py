"""What is said, or set, to be a password, a key, a PIN or a code: a name, and behind it what looks like a value."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftq.check.secrets.values import END, SIGNS, Secret, is_key, is_password, is_placeholder, is_strong, stands_for
from ftq.errors import lines

PASSWORDS = (
    r"passwor[dt]|passwd|passphrase|passcode|kennwort|mots? de passe|contrase(?:ñ|n.?)a|wachtwoord|hasło|senha|"
    r"palavra-passe|lösenord|adgangskode|passord|heslo|jelszó|parola|пароль|密码|密碼|パスワード"
)
KEYS = r"secret|(?:api|access|private|secret)[ _-]?key|(?:access|auth|api|bot|secret)[ _-]?token"
DOORS = r"alarm|door|gate|entry|safe|garage|keypad|key ?box|tür|tor|zugangs|zutritts|tresor|schloss"
OF = r"(?:of|for|to|für|des|der|vom|zum|zur) (?:the |den |die |das )?"
# one of these is in each text that names one; longer ones cost less
HINTS = (
    *("pass", "pw", "kennwort", "contrase", "wachtw", "hasło", "senha", "lösen", "adgangsk", "heslo", "jelsz"),
    *("parola", "пароль", "密", "パス", "secret", "key", "token", "pin", "code", "kombination", "combination"),
)  # fmt: skip
NAME = re.compile(
    rf"(?:(?P<password>(?:{PASSWORDS})(?:s|er)?|(?<![^\W_])(?:pwd|psw|pw))|(?P<pass>(?<![\w-])pass)|(?P<key>{KEYS})|"
    rf"(?P<code>(?<!\w)pins?(?:[- ]?(?:code|number|nummer))?|(?<!\w)(?:{DOORS})[- ]?codes?|"
    rf"(?<!\w)codes? {OF}(?:{DOORS})\w*|(?<!\w)[ck]ombination {OF}(?:safe|lock|vault|tresor|schloss)\w*))(?![\w-])",
    re.I,
)
# behind the name: marks, a remark in brackets, up to five words on what it is for, a sign or a verb, and the value
CLOSED, OPEN = r"[*_`\"'’”»\])]{0,4}", r"[*_`\"'„“«‚‘]{0,4}"
SET = re.compile(
    rf"{CLOSED}(?: ?\([^()\n]{{1,40}}\))?(?P<between>(?:[ \t][\w'’./@-]{{1,30}}){{0,5}}?){CLOSED}"
    r"(?:[ \t\xa0]{0,3}(?:[:：]=?|={1,3}>?|[-–]>|→|[-–—](?=[ \t]))|"
    r"[ \t](?:is|ist|lautet|was|war|est|es|é|è|jest|är|er)[ \t]?:?(?=[ \t]))"
    rf"[*_]{{0,2}}[ \t\xa0]{{0,8}}{OPEN}(?P<value>{SIGNS}){END}"
)
BESIDE = re.compile(rf"{CLOSED}[ \t](?P<marks>[`\"'„“«]?)(?P<value>{SIGNS}){END}")
DIGITS = re.compile(
    r"(?!(?:0000|1234|12345|123456)\b|\d{4}-\d\d-\d\d)(?:\d[\d-]{2,10}\d|\d\d(?: \d\d){1,3})(?![\w.,]*\d)"
)
BEFORE_DIGITS = re.compile(
    rf"{CLOSED}(?:[ \t][\w'’./-]{{1,30}}){{0,6}}?{CLOSED}[ \t]?"
    r"(?:[:：=→–]|(?<=[ \t])(?:is|ist|lautet|est|es|è|jest)|(?<=[ \t]))"
    rf"[*_]{{0,2}}[ \t]{{0,4}}{OPEN}(?={DIGITS.pattern})"
)
# `DB_PASSWORD=correcthorse`: under a name in capitals any word is a value
CAPITALS = re.compile(
    r"(?:PASSW(?:OR)?[DT]|KENNWORT|PASSPHRASE|SECRET|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|(?:ACCESS|AUTH|API|BOT)_?TOKEN)"
    rf"\w{{0,20}}(?:=|: )[\"']?(?=[^\s\"']{{0,40}}[A-Za-z])(?P<value>{SIGNS}){END}"
)
SIGN = re.compile(r"[\d@#%^!?]")  # in each value
# what is said of passwords in general
GENERAL = re.compile(
    r"\b(?:must|should|shall|may|can|cannot|has|have|had|needs?|length|polic(?:y|ies)|min|minimum|max|maximum|field|hash\w*|"
    r"type|format|column|file|version|hint|reset\w*|rules?|manager|algorithm|encoding|encrypt\w*|expir\w*|changed?|using|"
    r"not|example|muss|soll|darf|hat|mindestens|nicht|of length)\b",
    re.I,
)
# where `pass` is a noun
NOUN = re.compile(r"(?:^[\s>*+-]*|[,;/|(][ \t]*|\b(?:user|login)[ \t]+\S{1,40}[ \t]+)$", re.I)


def said(text: str, lowered: str) -> Iterator[Secret]:
    """All in the text. `lowered` is the text in small letters."""
    hints = [hint for hint in HINTS if hint in lowered]
    if not hints:
        return
    for match in CAPITALS.finditer(text):
        if not is_placeholder(match[0]) and not stands_for(match["value"]):
            yield Secret("password or key", match["value"].rstrip(".,:;"), match[0])
    for line in lines(text):
        if SIGN.search(line) and any(map(line.lower().__contains__, hints)):
            yield from _in_line(line)


def answered(question: str, answer: str) -> Iterator[Secret]:
    """What answers a question for a password: `What is the password of ann?`, `ann: Sommer2026!`."""
    words = answer.split(maxsplit=6)
    if not 0 < len(words) < 6 or len(answer) > 120:
        return
    value = words[-1].strip("*_`\"'„“”«»").rstrip(".,")
    for match in NAME.finditer(question):
        looks_so = is_password(value) if match["password"] else bool(match["key"]) and is_key(value)
        if looks_so or (match["code"] and DIGITS.fullmatch(value)):
            yield Secret("PIN or code" if match["code"] else "password or key", value, value)
            return


def _in_line(line: str) -> Iterator[Secret]:
    for name in NAME.finditer(line):
        if name["code"]:
            yield from _code(line, name)
        elif value := _value(line, name):
            yield Secret("password or key", value[0], line[name.start() : value[1]])


def _value(line: str, name: re.Match[str]) -> tuple[str, int] | None:
    """(the value behind a name, where it ends)."""
    is_named, is_pass = bool(name["password"]), bool(name["pass"])
    looks_so = is_key if name["key"] else is_password
    is_noun = not is_pass or bool(NOUN.search(line[max(0, name.start() - 60) : name.start()]))
    if (match := SET.match(line, name.end())) and is_noun and not GENERAL.search(match["between"]):
        value = match["value"]
        is_long = is_strong(value) if match["between"] or not is_named else True
        if is_long and looks_so(value, 6 if is_named or not match["between"] else 12):
            return value.rstrip(".,:;"), match.end("value")
    if (match := BESIDE.match(line, name.end())) and not name["key"] and is_noun:
        value = match["value"]
        if is_password(value) if match["marks"] else is_strong(value) and is_password(value, 8):
            return value.rstrip(".,:;"), match.end("value")
    return None


def _code(line: str, name: re.Match[str]) -> Iterator[Secret]:
    if name[0].startswith("pin") and "code" not in name[0].lower():  # a pin of a plug
        return
    behind = BEFORE_DIGITS.match(line, name.end())
    if behind and not GENERAL.search(behind[0]) and (value := DIGITS.match(line, behind.end())):
        yield Secret("PIN or code", value[0], line[name.start() : value.end()])
