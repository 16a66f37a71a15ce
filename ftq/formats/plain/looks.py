"""What bytes look like that are no UTF-8: told with what to type. Nothing is taught by such a look."""

from __future__ import annotations

import codecs
import re
from collections import Counter

LOOKED = 200_000  # bytes that are looked at
FEWEST, MOST = 0.5, 0.9  # shares of the letters that tell a script
DAMAGED = 0.75  # of the bytes beyond ASCII: if more are right UTF-8, that is what it was
MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UNITS = 0.6  # of UTF-16's units whose first byte is the same: most letters of a text are of one alphabet
# iconv's name -> what its letters beyond ASCII are in the script's own words.
SCRIPTS = {
    "SHIFT_JIS": re.compile(r"[\u3041-\u3093\u30a1-\u30f6]"),
    "EUC-JP": re.compile(r"[\u3041-\u3093\u30a1-\u30f6]"),
    "GB18030": re.compile(r"[的一是不了在人有我他这为之来以个中上们到说国和地也子时道出而要于就下得可你年生每用水]"),
    "BIG5": re.compile(r"[的一是不了在人有我他這為之來以個中上們到說國和地也子時道出而要於就下得可你年生每用水]"),
    "EUC-KR": re.compile(r"[\uac00-\ud7a3]"),
    "CP1251": re.compile(r"[оеаинтсрвлкмдпуіїєў]"),
    "KOI8-R": re.compile(r"[оеаинтсрвлкмдпу]"),
    "CP866": re.compile(r"[оеаинтсрвлкмдпу]"),
}
SHARES = {"SHIFT_JIS": 0.3, "EUC-JP": 0.3, "GB18030": 0.08, "BIG5": 0.08, "EUC-KR": MOST}
CENTRAL = ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîșțşţ", "čćđšž")
WESTERN = ("äöüßé", "àâæçéèêëîïôœùûüÿ", "áéíñóúü", "áâãàçéêíóôõúü", "åäöæøé", "àèéìíîòóù")
ALPHABETS = {
    "CP1250": CENTRAL,
    "ISO-8859-2": CENTRAL,
    "CP1254": ("çğıöşüâî",),
    "CP437": WESTERN,
    "MACINTOSH": WESTERN,
    "CP1252": ("".join(WESTERN),),  # of several languages: where they are of one, it is read
}
CODECS = {"MACINTOSH": "mac-roman"}  # what Python calls one
SIGNS = frozenset("\u00a0€‚„…‘’“”•–—™©®«»°§·×÷£")
LONG = re.compile(rb"[\x80-\xff]{3,}")
UTF_8 = re.compile(rb"[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


def hint(data: bytes) -> str:
    """What to type, behind a reason; empty for a damaged text in UTF-8."""
    name = "UTF-16" if data.startswith(MARKS) else _looks(data[:LOOKED])
    return f": it looks like {name}; {command(name)}" if name else ""


def command(name: str) -> str:
    """How to make UTF-8 of a file."""
    return f"iconv -f {name} -t UTF-8 FILE > NEW"


def utf_16(head: bytes) -> str:
    """`UTF-16LE` or `UTF-16BE` for such a text without a byte order mark; else nothing."""
    head = head[: len(head) // 2 * 2]
    for name, first in (("UTF-16LE", 1), ("UTF-16BE", 0)):
        upper, lower = head[first::2], head[1 - first :: 2]
        if b"\0" not in upper or b"\0" in lower or Counter(upper).most_common(1)[0][1] < UNITS * len(upper):
            continue
        text = head.decode(name, errors="replace")
        if all(sign.isprintable() or sign.isspace() or sign == "\ufffd" for sign in text):
            return name
    return ""


def _looks(data: bytes) -> str:
    """The name of an encoding; empty if none stands out."""
    beyond = sum(byte > 127 for byte in data)
    if sum(map(len, UTF_8.findall(data))) > DAMAGED * beyond:
        return ""
    if sum(map(len, LONG.findall(data))) > FEWEST * beyond or _share(data, "SHIFT_JIS") >= SHARES["SHIFT_JIS"]:
        shares = {name: _share(data, name) for name in SCRIPTS}
        clear = [name for name, share in shares.items() if share >= SHARES.get(name, FEWEST)]
        return max(clear, key=lambda name: (name in SHARES, shares[name]), default="")
    return next((name for name in ALPHABETS if _is_written(data, name)), "")


def _share(data: bytes, name: str) -> float:
    """How many of the letters beyond ASCII are what the script's texts have most."""
    beyond = [sign for sign in _decoded(data, name) if sign > "\x7f"]
    return len(SCRIPTS[name].findall("".join(beyond))) / len(beyond) if beyond else 0


def _is_written(data: bytes, name: str) -> bool:
    """Whether all its letters are of one language."""
    letters = {sign.lower() for sign in _decoded(data, name) if sign > "\x7f"} - SIGNS
    return bool(letters) and any(letters <= set(alphabet) for alphabet in ALPHABETS[name])


def _decoded(data: bytes, name: str) -> str:
    """The text; nothing where it can't be in that encoding. A character may be cut at the end."""
    for end in range(len(data), max(0, len(data) - 4), -1):
        try:
            return data[:end].decode(CODECS.get(name, name))
        except UnicodeDecodeError as error:
            if error.start < len(data) - 4:
                return ""
    return ""
