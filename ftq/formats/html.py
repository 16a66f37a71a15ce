"""HTML becomes Markdown: the text of the page, without what leads around the site."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ftq.formats import decode, headings
from ftq.formats.convert import Converted
from ftq.formats.kind import Unusable
from ftq.formats.pages import unseen

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from bs4.element import Tag

DROPPED = (
    "script",
    "style",
    "template",
    "noscript",
    "nav",
    "header",
    "footer",
    "aside",
    "svg",
    "iframe",
    "form",
    "button",
    "head",
    "title",
)
ROLES = ("navigation", "contentinfo", "search", "menu", "menubar", "tablist")
# Parts by the words of their ids and classes: those that lead around, and those on the page instead of on its subject.
LEADING = frozenset({"breadcrumb", "breadcrumbs", "toc", "tableofcontents", "contents", "navigation", "navbar", "nav",
    "menu", "sidebar", "pagination", "pager", "skip", "skiplink"})  # fmt: skip
ABOUT = frozenset({"footer", "printfooter", "metadata", "byline", "copyright", "lastmodified", "editsection"})
_NAME = re.compile(r"[A-Za-z]+")
MOST_LINKS, SHORT = 0.6, 300  # share of a part's characters that are links; characters of one that is about the page
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_MARKS = re.compile(  # not in a_b, not in 2 * 3
    r"[\\`]|<(?=[A-Za-z/!?])|(?<![^\W_])_|_(?![^\W_])|(?<!\s)\*|\*(?!\s)|\[(?=[^\[\]]*\][(\[:])|&(?=#?\w+;)|~(?=~)"
)
_BEGINS = re.compile(r"^(\s*(?=[#+>=-])|\s*\d{1,9}(?=[.)]))([#+>.)=-]+)(?=\s|$)")
MOST_TAGS, DENSE, DEEPEST = 20_000, 40, 250  # one for so many bytes beside these; levels that a Markdown can be made of
REACH = 20  # times the text that may be looked at for the ends of tags
MOST_AT_ALL = 100_000  # tags take about 2.5 kB of memory each
SELF_CLOSING = {"p", "li", "dt", "dd", "tr", "td", "th", "option"}  # none lies right in another one
_TAG = re.compile("<[A-Za-z!?]")
_LONG_NUMBER = re.compile("&#(?:[xX][0-9a-fA-F]{7,}|[0-9]{8,});?")  # of no character, and int() refuses it
RAISED = str.maketrans("0123456789+-−n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻ⁿ")
QUESTIONS = ("?", "？", "؟", "\u037e")
PERMALINKS = {"¶", "#", "§", "🔗", "link", ""}  # what a heading's link to itself shows


def convert(data: bytes) -> Converted:
    """Raises Unusable where its encoding can't be told, and where it is markup more than text."""
    text, notes = _decoded(data)
    opened = text.find("<!--", text.rfind("-->") + 1)
    if opened >= 0:  # html.parser would look for its end again at each `<!--` in it
        text, notes = text[:opened], (*notes, f"line {text.count(chr(10), 0, opened) + 1}: a comment without an end")
    text = _ended(text)
    most = min(MOST_AT_ALL, MOST_TAGS + len(text) // DENSE)
    if text.count("<") > most and (count := sum(1 for _ in _TAG.finditer(text))) > most:
        raise Unusable(f"{count:,} tags in {len(data) / 1e6:,.1f} MB are too many (at most {most:,}): split it")
    if _reach(text) > REACH * len(text):
        raise Unusable("tags that nothing ends: save it again, or as another format")
    soup = _parsed(_LONG_NUMBER.sub("&#65533;", text))
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    body = _clean(soup)
    lines = [(tag.sourceline or 1) for tag in body.find_all(HEADINGS) if tag.get_text(strip=True)]
    has_title = bool(body.find("h1"))
    markdown = _markdown(body)
    if title and not has_title and markdown.strip():
        markdown, lines = f"# {title}\n\n{markdown}", [1, *lines]
    return Converted(headings.of_bold_lines(markdown), notes, marks=_marks(markdown, lines))


def _ended(text: str) -> str:
    """The text with no `<` that nothing ends: html.parser would look for its end from each of them to the last one."""
    last = text.rfind(">") + 1
    return text[:last] + text[last:].replace("<", "&lt;")


def _reach(text: str) -> int:
    """Characters that html.parser looks at to find where each tag ends."""
    total, end = 0, -1
    for tag in _TAG.finditer(text):
        if end <= tag.start():
            end = text.find(">", tag.start())
            end = len(text) if end < 0 else end
        total += end - tag.start()
    return total


def _decoded(data: bytes) -> tuple[str, tuple[str, ...]]:
    """The text: in UTF-8 if it is that, else in the encoding that the page names."""
    from bs4.dammit import EncodingDetector

    try:
        decoded = decode.text(data)
    except Unusable:
        declared = EncodingDetector.find_declared_encoding(data, is_html=True)
        if not declared:
            raise
    else:
        if not decoded.note.startswith("read as"):
            return decoded.text, (decoded.note,) if decoded.note else ()
        declared = EncodingDetector.find_declared_encoding(data, is_html=True)
        if not declared:
            return decoded.text, (decoded.note,)
    try:
        return data.decode(declared), ()
    except (UnicodeDecodeError, LookupError):
        raise Unusable(f"it says that it is {declared}, but isn't: save it as UTF-8") from None


def _parsed(text: str) -> BeautifulSoup:
    """The tree. Raises Unusable for one that is too deep."""
    from bs4 import BeautifulSoup

    class Soup(BeautifulSoup):
        def handle_starttag(self, name: str, *arguments: Any, **named: Any) -> Tag | None:
            if name in SELF_CLOSING and self.currentTag is not None and self.currentTag.name == name:
                self.handle_endtag(name)
            if len(self.tagStack) > DEEPEST:
                raise Unusable("nested too deeply: save it again, or as another format")
            return super().handle_starttag(name, *arguments, **named)

    return Soup(text, "html.parser")


def _clean(soup: BeautifulSoup) -> Tag:
    """The part of the page that holds its text; the titles in a `header` stay."""
    for header in soup.find_all("header"):
        for title in header.find_all("h1"):
            header.insert_before(title.extract())
    for tag in soup.find_all(DROPPED):
        if not tag.decomposed:
            tag.decompose()
    unseen.drop(soup)
    for caption in soup.find_all("caption"):  # as a table's first row, it would leave it without a header
        if (table := caption.find_parent("table")) is not None:
            caption.name = "p"
            table.insert_before(caption.extract())
    for heading in soup.find_all(HEADINGS):
        for link in heading.find_all("a"):
            if link.get_text(strip=True) in PERMALINKS:
                link.decompose()
    for power in soup.find_all("sup"):
        if (note := power.find("a")) is not None and str(note.get("href") or "").startswith("#"):
            power.decompose()  # of a footnote
        else:
            power.replace_with(raised(power.get_text(strip=True)))
    for tag in soup.find_all(_is_beside):
        if not tag.decomposed:
            tag.decompose()
    for summary in soup.find_all("summary"):
        _put_before_its_answer(soup, summary)
    for details in soup.find_all("details"):
        details.name = "div"  # a block: what stands around it isn't on its lines
    if named := soup.select_one("#title-text"):  # Confluence's `Space : Title`
        named.string = named.get_text(" ", strip=True).rpartition(" : ")[2]
    main = soup.find("main") or soup.select_one("[role=main]")
    return main if main is not None and main.get_text(strip=True) else soup


def _put_before_its_answer(soup: BeautifulSoup, summary: Tag) -> None:
    """A question that opens its answer becomes bold, in the paragraph of the answer if it has one."""
    from bs4.element import Tag

    question = summary.get_text(" ", strip=True)
    if not question.endswith(QUESTIONS):
        summary.name = "p"
        return
    bold = soup.new_tag("b", string=question)
    after = next((part for part in summary.next_siblings if isinstance(part, Tag) or str(part).strip()), None)
    if isinstance(after, Tag) and after.name == "p":
        after.insert(0, bold, " ")
        summary.decompose()
    elif after is not None and not isinstance(after, Tag):
        summary.replace_with(bold, " ")
    else:
        summary.name = "p"
        summary.clear()
        summary.append(bold)


def _is_beside(tag: Tag) -> bool:
    """Whether a part leads around the site, or says who made the page and when."""
    if tag.name in ("html", "body", "main", "article", "h1"):
        return False
    if tag.get("role") in ROLES:
        return True
    names = " ".join([str(tag.get("id") or ""), *(tag.get("class") or ())])
    words = set(_NAME.findall(names)) if names.strip() else set()
    if words.isdisjoint(LEADING) and words.isdisjoint(ABOUT):
        return False
    if tag.find(["h1", "main", "article"]):
        return False
    text = len(tag.get_text("", strip=True))
    if words & ABOUT and text < SHORT and not tag.find([*HEADINGS, "table", "pre"]):
        return True
    linked = sum(len(link.get_text("", strip=True)) for link in tag.find_all("a"))
    return bool(words & LEADING) and text > 0 and linked >= MOST_LINKS * text


def _markdown(tag: Tag) -> str:
    from markdownify import ATX, MarkdownConverter

    class Converter(MarkdownConverter):
        def escape(self, text: str, parent_tags: set[str]) -> str:
            """Escape what Markdown would read as a mark, and no more: a_b and 2 * 3 stay as they are."""
            return _BEGINS.sub(r"\1\\\2", _MARKS.sub(r"\\\g<0>", text))

    converter = Converter(heading_style=ATX, bullets="-", code_language_callback=_language)
    return str(converter.convert_soup(tag)).strip() + "\n"


def _language(pre: Tag) -> str:
    """The language of a code block, as Pygments, highlight.js and pandoc write it into the classes."""
    inner = pre.find("code")
    outer = pre.parent.get("class") if pre.parent else None
    classes = [*(pre.get("class") or ()), *((inner.get("class") if inner else None) or ()), *(outer or ())]
    for name in classes:
        if named := re.fullmatch(r"(?:language-|lang-|highlight-)([\w+#-]+)", name):
            return named[1]
    return ""


def _marks(markdown: str, lines: list[int]) -> tuple[tuple[int, str], ...]:
    """Where each heading stands in the HTML, if as many came out as went in."""
    numbers = headings.lines(markdown)
    marks = zip(numbers, lines, strict=False) if len(numbers) == len(lines) else ()
    return ((0, ""), *((number, f"line {line}") for number, line in marks))


def raised(text: str) -> str:
    """`6` behind `10` as `⁶`; words as they are, and `^` where a sign can't be raised."""
    if text.isalpha() and len(text) > 1:
        return text  # `1st`
    high = text.translate(RAISED)
    return high if not set(high) & set(text) else f"^{text}" if text.strip() else ""
