"""A heading without what decorates it: ids, classes, anchors, links to itself, emoji shortcodes."""

from __future__ import annotations

import re

LONGEST = 500  # characters
_DECORATION = "[<}:#¶"  # one of these is in whatever is none of the text
_ATTRIBUTE = r"(?:[#.][^\s{}#.]+|[\w:-]+=(?:\"[^\"]*\"|'[^']*'|[^\s{}\"']*))"
# {#id}, {.class}, {#id .class key="value"}, {: .class }, {-}, and Docusaurus's {/* #id */}; `{a=1}` is text
_ATTRIBUTES = re.compile(
    rf"\s*\\?\{{(?=[^{{}}]*[#.:\"'*-])(?:-|:?\s*{_ATTRIBUTE}(?:\s*{_ATTRIBUTE})*|/\*[^{{}}]*\*/)\s*\}}\s*$"
)
_ANCHOR = re.compile(
    r"<a\b[^<>]*>\s*[#¶§🔗]?\s*</a>|\[\s*(?:[#¶§🔗]|&para;|&#182;|permalink)?\s*\]\(\s*#[^()\s]*[^()]*\)", re.I
)
_SHORTCODE = r":[a-z+-][a-z0-9_+-]{1,40}:"
_EMOJI = re.compile(rf"^(?:{_SHORTCODE}\s+)+|(?:\s+{_SHORTCODE})+\s*$")
_SIGNS = re.compile(r"(?:\s+#+|\s*¶)+\s*$")  # `Using C#` keeps its own


def undecorated(heading: str) -> str:
    """The Markdown of a heading's text. A very long heading is no title: it stays as it is."""
    if len(heading) > LONGEST:
        return heading
    if not any(map(heading.__contains__, _DECORATION)):
        return heading.strip()
    text = _ANCHOR.sub("", heading)
    while (shorter := _SIGNS.sub("", _EMOJI.sub("", _ATTRIBUTES.sub("", text)))) != text:
        text = shorter
    return text.strip()
