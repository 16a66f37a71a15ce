"""The base model's own chat template: what stands around the texts of an example, and never what it makes of them.

The template is rendered with placeholders, so no text of a document can change what it does.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from worker.llama.answer import DAY, WITHOUT_THINKING

Roles = tuple[str, ...]
HINT = "Train with format=alpaca, or take a base model that was made for chats."


@dataclass(frozen=True)
class Frame:
    """The template's text around one example's: its control tokens are written out.

    `before` has a piece in front of each text that is asked. `after` ends the prompt. `lead` is what the model writes
    before its answer (a space, an empty block of thoughts), `asked` the part of it that ftq's own questions hold.
    """

    before: tuple[str, ...]
    after: str
    lead: str
    asked: str
    gap: str
    stop: str

    def prompt(self, texts: list[str]) -> str:
        return "".join(piece + text for piece, text in zip(self.before, texts, strict=True)) + self.after

    def answer(self, text: str) -> str:
        """All that is learned but the stop token."""
        return self.lead + text + self.gap


def source(model_dir: Path) -> str:
    """The checkpoint's chat template; empty where it has none. A file of its own counts more than a setting."""
    if (path := model_dir / "chat_template.jinja").is_file():
        return path.read_text(encoding="utf-8")
    template = _settings(model_dir).get("chat_template")
    if isinstance(template, list):
        named = {one["name"]: one["template"] for one in template}
        template = named.get("default")
    return template if isinstance(template, str) else ""


class Template:
    """`controls` are the tokenizer's control tokens. UserError for a template that can't hold a question's answer."""

    def __init__(self, model_dir: Path, controls: list[str]) -> None:
        self._where, self._source = model_dir.name, source(model_dir)
        if not self._source:
            raise UserError(f"model {self._where} has no chat template, and format=chat trains with it", HINT)
        self._names, self._controls = _special_tokens(model_dir), any_of(controls)
        self._frames: dict[Roles, Frame] = {}
        self._taken: dict[Roles, bool] = {}

    def messages(self, instruction: str, input: str, turns: str = "") -> tuple[Roles, list[str]]:
        """Roles and texts of what is asked: the turns of a chat where the template takes them.

        Else the input is the system message, or stands before the question where the template takes none.
        """
        said = [(role, text.strip()) for role, text in json.loads(turns or "[]")]
        if said:
            roles, texts = self._chat([*said, ("user", instruction.strip())])
            if self._takes(roles):
                return roles, texts
        system = [("system", input.strip())] if input.strip() else []
        return self._chat([*system, ("user", instruction.strip())])

    def _chat(self, said: list[tuple[str, str]]) -> tuple[Roles, list[str]]:
        """Users and assistants in turns. A system message stands first, or in front of the next question."""
        chat, rules = list[tuple[str, str]](), list[str]()
        for role, text in said:
            if role in ("system", "developer"):
                rules.append(text)
                continue
            if rules and role == "user":
                before = "\n".join(rules)
                if not chat and self.takes_system:
                    chat.append(("system", before))
                else:
                    text = f"{before}\n\n{text}"
                rules = []
            if chat and chat[-1][0] == role:
                text = f"{chat.pop()[1]}\n{text}"
            chat.append((role, text))
        return tuple(role for role, _ in chat), [text for _, text in chat]

    def _takes(self, roles: Roles) -> bool:
        """Whether the template writes them all, and an answer after them."""
        if roles not in self._taken:
            asked, answered = self.pieces(list(roles), add_generation_prompt=True), self.pieces([*roles, "assistant"])
            self._taken[roles] = asked is not None and answered is not None
        return self._taken[roles]

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system message stays one: some templates refuse it, some write it into the question."""
        pieces = self.pieces(["system", "user"], add_generation_prompt=True)
        return pieces is not None and bool(pieces[1].strip())

    @property
    def stop(self) -> str:
        """The token that ends an answer."""
        return self.plain(("user",)).stop

    def frame(self, roles: Roles, code: Callable[[str], str]) -> Frame:
        """The frame of messages with these roles, its control tokens named by `code`."""
        if roles not in self._frames:
            plain = self.plain(roles)
            before, names = tuple(map(code, plain.before)), ("after", "lead", "asked", "gap", "stop")
            self._frames[roles] = Frame(before, **{name: code(getattr(plain, name)) for name in names})
        return self._frames[roles]

    def plain(self, roles: Roles) -> Frame:
        """The frame of messages, the last of them the question; control tokens by their names."""
        *before, after = self._needed(list(roles), add_generation_prompt=True)
        asked = self._needed(list(roles), add_generation_prompt=True, **WITHOUT_THINKING)[-1]
        asked = asked if asked.startswith(after) else after
        *_, between, end = self._needed([*roles, "assistant"])
        gap, stop = self._end(end)
        lead = between if between.startswith(asked) else asked
        return Frame(tuple(before), after, lead.removeprefix(after), asked.removeprefix(after), gap, stop)

    def _end(self, text: str) -> tuple[str, str]:
        """(what stands between an answer and its stop token, the stop token)."""
        stop = self._controls.search(text)
        if stop is None:
            raise UserError(f"the chat template of {self._where} ends an answer with no control token", HINT)
        return text[: stop.start()], stop.group()

    def _needed(self, roles: list[str], **options: Any) -> list[str]:
        pieces = self.pieces(roles, **options)
        if pieces is None:
            raise UserError(f"the chat template of {self._where} can't hold a {' and a '.join(roles)} message", HINT)
        return pieces

    def pieces(self, roles: list[str], **options: Any) -> list[str] | None:
        """The rendered text around each message's; None where the template doesn't write each just once, in order."""
        from jinja2 import TemplateError

        places = [f"ftq{secrets.token_hex(8)}" for _ in roles]
        messages = [{"role": role, "content": place} for role, place in zip(roles, places, strict=True)]
        defaults = {"add_generation_prompt": False, "tools": None, "documents": None, "date_string": DAY}
        try:
            text = self._jinja.render(**{**self._names, **defaults, **options}, messages=messages)
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError):
            return None
        pieces = re.split("|".join(places), text)
        return pieces if re.findall("|".join(places), text) == places else None

    @cached_property
    def _jinja(self) -> Any:
        """The template, compiled as transformers does it; the date is always the same."""
        from jinja2 import TemplateError, nodes
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        class Generation(Extension):  # {% generation %} marks an answer and writes nothing
            tags = {"generation"}  # noqa: RUF012 (as Jinja declares it)

            def parse(self, parser: Any) -> list[nodes.Node]:
                next(parser.stream)
                body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
                return body

        def refuse(message: str) -> None:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
        )
        environment.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
        environment.globals["raise_exception"] = refuse
        environment.globals["strftime_now"] = datetime.strptime(DAY, "%d %b %Y").strftime
        try:
            return environment.from_string(self._source)
        except TemplateError as error:
            raise UserError(f"the chat template of {self._where} can't be read ({error})", HINT) from None


def any_of(controls: list[str]) -> re.Pattern[str]:
    """The longest of those that begin at one place, as a tokenizer finds them."""
    return re.compile("|".join(map(re.escape, sorted(controls, key=len, reverse=True))) or r"(?!)")


def _special_tokens(model_dir: Path) -> dict[str, str]:
    """bos_token and the like, which templates write by these names."""
    tokens = dict[str, str]()
    for name, value in _settings(model_dir).items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    return tokens


def _settings(model_dir: Path) -> dict[str, Any]:
    path = model_dir / "tokenizer_config.json"
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return value
