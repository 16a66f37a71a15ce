"""Long texts in parts: each can be read by itself, and no character and no word is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from wcwidth import iter_graphemes

from ftq.examples.split import cut

ROWS = "".join(f"| E{n:03} | valve {n} is stuck | turn screw {3 * n} |\n" for n in range(60))
HTML = "".join(f"<tr><td>E{n}</td><td>valve {n}</td></tr>" for n in range(40))


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        (
            f"| code | meaning | what to do |\n|---|---|---|\n{ROWS}",
            "| code | meaning | what to do |\n|---|---|---|\n| E",
            "|",
        ),
        (
            f"> | a | b |\n> |---|---|\n{'> | 1 | 2 |' + chr(10)}" + "> | 3 | 4 |\n" * 120,
            "> | a | b |\n> |---|---|\n> |",
            "|",
        ),
        ("```py\n" + "x = f(1)\n\n" * 90 + "```", "```py\nx", "\n```"),
        ("  ~~~~sh\n" + "  a --b\n" * 180 + "  ~~~~", "  ~~~~sh\n  a", "\n  ~~~~"),
        (
            f"<table><thead><tr><th>A</th></tr></thead>{HTML}</table>",
            "<table><thead><tr><th>A</th></tr></thead>",
            "</tr>\n</table>",
        ),
        (f"<ul>{'<li>an item of it</li>' * 60}</ul>", "<ul>\n<li>", "</li>\n</ul>"),
        ("- Pump:\n" + "  - check the oil\n" * 60, "- Pump:\n  - check", "oil"),
        ("Pump\n" + ": it moves the water up\n" * 40, "Pump\n: it", "up"),
        ("> " + "many words of a quote " * 60, "> ", ""),
    ],
    ids=["table", "quoted table", "code", "indented code", "HTML table", "HTML list", "list", "definitions", "quote"],
)
def test_each_part_is_readable_by_itself(text: str, first: str, last: str) -> None:
    parts = cut((text,), len, 400)
    assert len(parts) > 2
    assert all(len(part) <= 400 for part in parts)
    assert all(part.startswith(first) for part in parts[1:])
    assert all(part.endswith(last) for part in parts[:-1])


def test_code_of_a_record_keeps_its_fence_and_a_lead_stays_with_what_follows() -> None:
    answer = "Do this:\n\n```sh\na b c d\n\ne f g h\n\ni j k l\n```\n\nThen that is done well."
    assert cut(tuple(answer.split("\n\n")), lambda text: len(text.split()), 12) == [
        "Do this:",
        "```sh\na b c d\n```",
        "```sh\ne f g h\n\ni j k l\n```",
        "Then that is done well.",
    ]
    table = ("The codes are these.", "Look here:", "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 4)
    assert cut(table, lambda text: len(text.split()), 30)[0] == "The codes are these."


@pytest.mark.parametrize(
    "text",
    [
        "ระบบปั๊มน้ำทำงานได้ดีมากในทุกๆวันและไม่มีปัญหาเลยแม้แต่น้อย" * 4,
        "क्षत्रियस्त्रीज्ञानश्रीकृष्ण" * 8,
        "🇩🇪🇫🇷👨‍👩‍👧👍🏽" * 12,
        "각각" * 30,
        "ເຄື່ອງປັ໊ມນ້ຳເຮັດວຽກໄດ້ດີ" * 6,
        "ម៉ាស៊ីនបូមទឹកដំណើរការល្អ" * 6,
        "ရေစုပ်စက်ကောင်းစွာအလုပ်လုပ်သည်" * 6,
        "བོད་ཡིག་གི་ཆུ་" * 12,
    ],
    ids=["Thai", "Devanagari", "emoji", "Hangul", "Lao", "Khmer", "Myanmar", "Tibetan"],
)
def test_no_cut_is_inside_of_a_character(text: str) -> None:
    parts = cut((text,), len, 37)
    assert "".join(parts) == text
    assert [one for part in parts for one in iter_graphemes(part)] == list(iter_graphemes(text))
    assert not any(part[-1] in "เแโใไເແໂໃໄ\u17d2\u1039" for part in parts)


def test_no_cut_is_inside_of_a_latin_word_nor_before_a_closing_sign() -> None:
    text = "我们使用Kubernetes部署到服务器（上海）上面然后再使用Prometheus监控" * 6
    parts = cut((text,), len, 33)
    assert "".join(parts) == text
    assert not any(one[-1].isascii() and two[0].isascii() for one, two in pairwise(parts))
    assert not any(part[0] in "）" or part[-1] in "（" for part in parts)
