"""What the paths of ftq's own API answer, and the forms of what is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ftq.client.workers import Member
from ftq.store.records import Event, Run, Version
from gateway.own.entry import Query
from gateway.wire import Body

Count = Annotated[int, Field(ge=0, le=2**53)]
Text = Annotated[str, Field(max_length=4096)]


@dataclass(frozen=True)
class About:
    """The server and the key that asks. A run counts as silent after `lease_seconds`; `owner` is whose its runs are."""

    ftq: str
    lease_seconds: float
    key: str
    admin: bool
    largest_upload: int
    owner: str


@dataclass(frozen=True)
class Runs:
    """The newest first; `count` is how many there are in all."""

    data: list[Run]
    count: int


@dataclass(frozen=True)
class Told:
    """The run after it, and notes for a person."""

    run: Run
    notes: list[str]


@dataclass(frozen=True)
class Promoted:
    run: Run
    before: str | None


@dataclass(frozen=True)
class Events:
    data: list[Event]


@dataclass(frozen=True)
class Versions:
    data: list[Version]


@dataclass(frozen=True)
class Workers:
    data: list[Member]


@dataclass(frozen=True)
class Plans:
    data: list[dict[str, Any] | None]


@dataclass(frozen=True)
class Plan:
    plan: dict[str, Any] | None


@dataclass(frozen=True)
class Name:
    name: str


@dataclass(frozen=True)
class RunFile:
    """`name` is the path below the run's folder, with `/`."""

    name: str
    bytes: int


@dataclass(frozen=True)
class RunFiles:
    data: list[RunFile]


@dataclass(frozen=True)
class ModelPart:
    """A file of a model: at `path` below the run's folder, or as `data` in base64."""

    name: str
    bytes: int
    sha256: str
    path: str | None
    data: str | None


@dataclass(frozen=True)
class ModelParts:
    kind: str
    file: str
    parts: list[ModelPart]


@dataclass(frozen=True)
class Leftover:
    place: str
    name: str
    bytes: int


@dataclass(frozen=True)
class Room:
    """What `ftq gc` would delete: (run, bytes), leftovers, and how many questions; and why it spares old runs."""

    removable: list[tuple[Run, int]]
    leftovers: list[Leftover]
    questions: int
    spared: list[str]


@dataclass(frozen=True)
class Sizes:
    sizes: list[int]
    freed: int
    staying: int


@dataclass(frozen=True)
class Done:
    done: bool = True


def comparison() -> type:
    """What compares two runs; imported when it is described."""
    from ftq.evaluation.compare import Comparison

    return Comparison


# ---- what is asked ----------------------------------------------------------------------------------------


class Latest(Query):
    limit: Count | None = None


class ByName(Query):
    run: Text


class After(Query):
    after: Count = 0


class Card(Query):
    card: Text
    model: Text


class AnyCard(Query):
    card: Text | None = None


class Wanted(Query):
    name: Text


class Kind(Query):
    kind: Text = "gguf"


class Two(Query):
    a: Text
    b: Text


class Old(Query):
    old: Annotated[int, Field(ge=0, le=1)] = 0


class Last(Query):
    last: Count = 10


class Left(Query):
    place: Literal["home", "uploads", "cache"]
    name: Text


class Retry(Body):
    from_stage: Literal["prepare", "train", "export", "infer", "evaluate"] | None = None


class Keep(Body):
    kept: bool = True


class Named(Body):
    name: Text


class These(Body):
    runs: list[Text] = Field(max_length=100_000)


class Ask(Body):
    """One `prompt`, answered as it is written, or several `prompts`, each answered as a whole."""

    run: Text
    prompt: str | None = None
    prompts: list[str] | None = Field(default=None, max_length=100_000)
    timeout: float = Field(default=600.0, gt=0, le=86_400, strict=False)
    options: dict[str, Any] = Field(default_factory=dict)


class Evaluate(Body):
    """`questions` are [{"question", "answers", "source"}], as a file of `ftq eval --questions` has them."""

    run: Text
    against: Text | None = None
    questions: list[dict[str, Any]] | None = None


class Submit(BaseModel):
    """The first line of a submit. `files` are (path, bytes) of what follows it, one after the other."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    id: str = Field(pattern="^[a-z0-9]{8,32}$")
    name: str | None
    spec: dict[str, Any]
    documents_hash: str = Field(max_length=128)
    left_out: list[tuple[str, str]]
    files: list[tuple[str, Annotated[int, Field(ge=0)]]] = Field(max_length=1_000_000)
