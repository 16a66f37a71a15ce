"""Options with the place where each was given, so that an error can name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ftq.errors import NotFound, UserError

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


def read_config(path: Path) -> dict[str, Any]:
    """The options of a YAML file, read by the safe loader. Raises UserError with file and line."""
    import yaml

    class Loader(yaml.SafeLoader):
        """What looks like a number or a date and is none stays text: whoever knows the option says what is allowed."""

    def scalar(read: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def construct(loader: yaml.SafeLoader, node: Any) -> Any:
            try:
                return read(loader, node)
            except ValueError:  # a month 13, an integer of 5,000 digits
                return loader.construct_scalar(node)

        return construct

    for kind in ("int", "float", "timestamp"):
        tag = f"tag:yaml.org,2002:{kind}"
        Loader.add_constructor(tag, scalar(yaml.SafeLoader.yaml_constructors[tag]))
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - as safe as that which it is made of
    except OSError as error:
        raise NotFound(f"{path}: can't be read ({error.strerror})", "--config names a YAML file of options.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", error))
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        if r"'\t'" in problem:
            raise UserError(f"{where}: a tab, and YAML takes spaces only", "Put spaces in its place.") from None
        raise UserError(f"{where}: not valid YAML ({problem})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected options as `key: value` lines", "For example: `epochs: 5`")
    return {str(key): value for key, value in values.items()}


def places_in(path: Path) -> dict[str, str]:
    """{option: `run.yaml:3`} of a YAML file that `read_config` has read. UserError for an option that stands twice."""
    import yaml

    top = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    places = dict[str, str]()
    for key, _ in top.value if isinstance(top, yaml.MappingNode) else []:
        name, place = str(key.value), f"{path}:{key.start_mark.line + 1}"
        if name in places:  # YAML would take the last one without a word
            raise UserError(f"{place}: {name} stands in {places[name]} already", "Keep the one that is meant.")
        places[name] = place
    return places
