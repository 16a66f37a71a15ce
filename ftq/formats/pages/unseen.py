"""What a page holds and no reader sees, and its links that share it: neither is text to learn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from bs4.element import Tag

_HIDING = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse))\b", re.IGNORECASE)
SHARED_BY = frozenset({"facebook", "twitter", "x", "linkedin", "pinterest", "whatsapp", "reddit", "telegram", "tumblr",
    "instagram", "xing", "mastodon", "bluesky", "threads", "email", "e-mail", "mail", "print"})  # fmt: skip
BESIDE, ABOVE = 16, 30  # characters beside such links and above them: `Share this:`


def drop(soup: BeautifulSoup) -> None:
    """Take out of the tree what isn't shown, what is there twice for screen readers' sake, and links that share."""
    for tag in soup.find_all(_is_hidden):
        if not tag.decomposed:
            tag.decompose()
    for tag in [*_repeated(soup), *_sharing(soup)]:
        if not tag.decomposed:
            tag.decompose()


def _is_hidden(tag: Tag) -> bool:
    """By its own attributes. What is hidden until a search finds it is text of the page."""
    if tag.name in ("html", "body"):  # scripts show them
        return False
    hidden = tag.get("hidden")
    return (hidden is not None and hidden != "until-found") or _HIDING.search(str(tag.get("style") or "")) is not None


def _repeated(soup: BeautifulSoup) -> Iterator[Tag]:
    """What screen readers leave out, where it is no word or stands elsewhere too."""
    inside = set[int]()
    outermost: list[Tag] = []
    for tag in soup.select('[aria-hidden="true"]'):
        if id(tag) not in inside:
            outermost.append(tag)
            inside.update(map(id, tag.descendants))
    if not outermost:
        return
    elsewhere = {text.strip() for text in soup.strings if id(text) not in inside}
    for tag in outermost:
        texts = [text for text in tag.stripped_strings if any(map(str.isalnum, text))]
        is_elsewhere = elsewhere.issuperset(texts) or tag.get_text("", strip=True) in elsewhere
        if is_elsewhere and not tag.find(["img", "h1", "main", "article"]):
            yield tag


def _sharing(soup: BeautifulSoup) -> Iterator[Tag]:
    """Lists and lines of links to networks and little else, with the line above that says so."""
    parents: dict[int, Tag] = {}
    for link in soup.find_all("a"):
        if _is_network(link) and link.parent is not None:
            around = link.parent.parent if link.parent.name == "li" else link.parent
            if around is not None and around.name in ("ul", "ol", "p", "div", "span"):
                parents[id(around)] = around
    for tag in parents.values():
        links = tag.find_all("a")
        length = len(tag.get_text("", strip=True)) - sum(len(link.get_text("", strip=True)) for link in links)
        if len(links) < 2 or length > BESIDE or not all(map(_is_network, links)):
            continue
        above = tag.find_previous_sibling()
        says = above.get_text(" ", strip=True) if above is not None and above.name in ("p", "span", "strong") else ""
        if above is not None and says.endswith(":") and len(says) <= ABOVE:
            yield above
        yield tag


def _is_network(link: Tag) -> bool:
    text = link.get_text(" ", strip=True)
    return text.lower() in SHARED_BY
