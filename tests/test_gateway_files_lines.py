"""A training file's lines: the quick look at a line says nothing that the parser of training data wouldn't say."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.files.lines import BLANK, FORMAT, LONGEST, Lines, _fault

BOM = b"\xef\xbb\xbf"


def _nested(depth: int) -> list[bytes]:
    return [b'{"a": ' + b"[" * depth + b"]" * depth + b"}", b'{"a": ' * depth + b"1" + b"}" * depth]


VALUES = [
    *(b"1" * digits for digits in (18, 19, 20, 4300, 4301)), b"-" + b"1" * 4301, b"1" * 5000 + b".5", b"1e999",
    b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"nan", b"+1", b"01", b"-", b"-0", b"1.", b".5", b"1e", b"1E+5", b"0x1",
    b"null", b"nul", b"True", b"", b"[1,]", b'{"b":1,}', b"{'b':1}", b"{b:1}", b"{1:2}", b'{"b" 1}', b'{"b":1 "c":2}',
    b'"\\ud800"', b'"\\ud800\\udc00"', b'"\\udc00\\ud800"', b'"\\u00"', b'"\\x41"', b'"\\u+041"', b'"\\/\\b"', b'"',
    b'"\t"', b'"\0"', b'"\x1f"', b'"\x7f"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"',
    '"ü码\u2028\u2029\x85\ufeff\U0001f600"'.encode(), b'"a\rb"', b'{"b":1,"b":2}', b'{"b":1,"b":[}',
]  # fmt: skip
LINES = [
    *(b'{"a": ' + value + b"}" for value in VALUES),
    *(line for depth in (199, 200, 201, 990, 5000) for line in _nested(depth)),
    b"", b" ", b"\t \r", b"\x0b\x0c", b"\x1c", b"\xc2\xa0", "\u2028".encode(), "\x85{}".encode(), b"\x0b{}", BOM,
    BOM + b"{}", BOM + BOM + b"{}", b"{}" + BOM, b" {} \t", b"{}\r", b"{}\0", b"{", b"}", b"{}}", b"{} {}", b"{},",
    b"[{}]", b"7", b'"text"', b"plain text", b"\xff\xfe{\0}\0", b'{"a":1}//x', b'{"a":1},{"b":2}', b'{"":{}}',
]  # fmt: skip

VALID = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
OBJECT = st.builds(
    lambda row, ascii_: json.dumps({"messages": row}, ensure_ascii=ascii_).encode(errors="surrogatepass"),
    VALID,
    st.booleans(),
)
BROKEN = st.builds(lambda row, at, byte: row[:at] + byte + row[at + 1 :], OBJECT, st.integers(0, 40), st.binary())
LINE = st.sampled_from(LINES) | OBJECT | BROKEN
ENDS = st.sampled_from([b"\n", b"\r\n"])
FILE = st.builds(
    lambda bom, rows, last: bom + b"".join(line + end for line, end in rows) + last,
    st.sampled_from([b"", BOM]),
    st.lists(st.tuples(LINE, ENDS), max_size=6),
    LINE | st.just(b""),
)


@settings(database=None, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(FILE, st.lists(st.integers(0, 400), max_size=5))
@example(b"\xc2\xa0\n{}", [1])
@example(b'{}\n{"a": 1}', [2])
@example(b'{}\n{"a": "b', [3])
def test_lines_are_judged_alike_in_whatever_pieces_they_come(data: bytes, cuts: list[int]) -> None:
    lines = Lines()
    for start, end in pairwise([0, *sorted(cuts), len(data)]):
        lines.feed(data[start : max(start, end)])
    _compare(lines, data)


def test_each_kind_of_line_is_judged_as_by_the_parser_of_training_data() -> None:
    for line in LINES:
        for data in (line + b"\n", b"{}\n" + line + b"\n{}\n", b"{}\r\n" + line, line):
            lines = Lines()
            lines.feed(data)
            _compare(lines, data)


def _compare(lines: Lines, data: bytes) -> None:
    """With every line judged by that parser. One that comes in pieces may be known by its first character already."""
    number, (total, blank, fault) = lines.end(), _by_the_parser(data)
    early = {f"{FORMAT} Line {total:,} isn't a JSON object."} if fault else set()
    assert lines.fault in {fault, *early}, data
    assert fault or (number, lines.blank) == (total - blank, blank), data


def _by_the_parser(data: bytes) -> tuple[int, int, str | None]:
    """Lines, blank ones among them, and the first fault, which is in the last of these lines."""
    rows = data.removeprefix(BOM).split(b"\n")
    rows = rows[:-1] if data.endswith(b"\n") or not data else rows
    blank = 0
    for number, row in enumerate(rows, 1):
        why = _fault(row)
        blank += why == BLANK
        if why not in ("", BLANK):
            return number, blank, f"{FORMAT} Line {number:,} {why}."
    return len(rows), blank, None


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    lines = Lines()
    lines.feed(b'{"a": "')
    while not lines.fault and lines.number < 100:
        lines.feed(b"x" * 2**20)
    assert lines.fault and f"Line 1 has more than {LONGEST:,} bytes" in lines.fault
