"""Records as JSON, there and back: the same for Run, Stage, Event, Version, Worker and what else is a dataclass.

A field that the other side doesn't know is left out, so that an older client reads what a newer server says.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ftq.errors import FtqError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Record = TypeVar("Record")


def encode(record: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values."""
    return dataclasses.asdict(record)


def decode(kind: type[Record], values: Any) -> Record:
    """What `encode` gave. FtqError where it isn't that."""
    from pydantic import ValidationError

    try:
        record: Record = adapter(cast(Any, kind)).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FtqError(f"the answer is no {kind.__name__}: {where or 'it'}: {first['msg']}") from None
    return record


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """What reads the kind, and knows its JSON schema."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
