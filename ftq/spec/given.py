"""Options with the place where each was given, so that an error can name it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SET = "--set"


class Given(dict[str, Any]):
    """`places` says of an option that it came by --set, or in which line of which file; a flag's own name says it."""

    def __init__(self, options: Mapping[str, Any], places: Mapping[str, str]) -> None:
        super().__init__(options)
        self.places = dict(places)


def with_options(options: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The same with these; the places of the others are kept."""
    return Given({**options, **more}, options.places if isinstance(options, Given) else {})


def place_of(options: Mapping[str, Any], name: str) -> str:
    """Where the option was given; empty where that isn't known."""
    return options.places.get(name, "") if isinstance(options, Given) else ""


def places_in(path: Path) -> dict[str, str]:
    """{option: `run.yaml:3`} of a YAML file that `read_config` has read."""
    import yaml

    top = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    pairs = top.value if isinstance(top, yaml.MappingNode) else []
    return {str(key.value): f"{path}:{key.start_mark.line + 1}" for key, _ in pairs}
