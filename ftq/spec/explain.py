"""Options in words: what is allowed, what is wrong with one, how its value is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ftq.errors import UserError, did_you_mean
from ftq.spec.given import SET, place_of

if TYPE_CHECKING:
    from pydantic import ValidationError

_SHOWN = 200  # characters of a value
# What the flags, and other trainers, call some options.
_CALLED = {
    "quant": "quantizations", "lr": "learning_rate", "rank": "r", "lora_r": "r", "lora_rank": "r",
    "num_train_epochs": "epochs", "per_device_train_batch_size": "batch_size", "max_length": "max_seq_length",
    "lr_scheduler_type": "lr_scheduler", "optim": "optimizer",
}  # fmt: skip
# Problems of which the limits say what is wrong.
_OF_NUMBERS = ("int_", "float_", "bool_", "finite_number", "greater_than", "less_than", "literal_error")
_SECRET = re.compile(r"(?i)^token$|(hf|hub|huggingface|access|auth|api)_?(token|key)|wandb|secret|passw|credential")


def refusal(error: ValidationError, options: Mapping[str, Any], schemas: Mapping[str, Any]) -> UserError:
    """One error that names every problem of the options; `schemas` has the JSON schema of each that there is."""
    problems = error.errors()
    lines = dict.fromkeys(_explain(problem, options, schemas) for problem in problems)
    hints = ["`ftq options` lists every option with its limits."]
    if any(map(_is_secret, problems)):
        hints.insert(0, "Options are recorded with the run. Set HF_TOKEN where the worker runs: docs/security.md.")
    return UserError("\n".join(lines), "\n".join(hints))


def allowed(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(allowed(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {allowed(schema['items'])}" if "enum" in schema["items"] else "list, separated by commas"
    low = schema.get("minimum", f"over {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum", f"under {schema['exclusiveMaximum']}" if "exclusiveMaximum" in schema else None)
    word = {"number": "number", "integer": "integer", "boolean": "true/false", "string": "text"}[schema["type"]]
    if low is None and high is None:
        return word
    return f"{word} from {low}" if high is None else f"{word} {low} to {high}"


def show(value: Any) -> str:
    """An option's value as people write it."""
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _explain(problem: Any, options: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """What is wrong with an option, and in which line of which file, if it stands in one."""
    name = str(problem["loc"][0])
    place = place_of(options, name)
    if problem["type"] == "extra_forbidden" and not _is_secret(problem):
        where, known = f" ({place})" if place else "", _CALLED.get(name.lower().replace("-", "_"))
        near = f" That is {known}." if known in schemas else did_you_mean(name, list(schemas))
        return f"unknown option {name}{where}.{near}"
    wrong = _wrong(name, problem, schemas)
    return f"{place}: {wrong}" if place not in ("", SET) else wrong


def _is_secret(problem: Any) -> bool:
    return problem["type"] == "extra_forbidden" and bool(_SECRET.search(str(problem["loc"][0])))


def _wrong(name: str, problem: Any, schemas: Mapping[str, Any]) -> str:
    if _is_secret(problem):
        return f"{name}: ftq takes no secret as an option"
    if problem["type"] == "missing":
        return f"{name} is missing: name one with --model (`ftq models` lists them) or in --config"
    if name == "quantizations" and problem["type"] == "literal_error":
        value, known = str(problem["input"]), list(schemas[name]["items"]["enum"])
        return f"unknown quantisation {value}.{did_you_mean(value, known)} Known: {', '.join(known)}"
    given = f"{name}={_given(problem['input'])}"
    several = len(problem["loc"]) == 2 and isinstance(problem["loc"][1], str)  # none of several types fits: said once
    if several or (name in schemas and problem["type"].startswith(_OF_NUMBERS)):
        return f"{given}: expected {allowed(schemas[name])}{_in_other_case(problem['input'], schemas[name])}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{given}: {message[0].lower()}{message[1:]}"


def _in_other_case(value: Any, schema: Mapping[str, Any]) -> str:
    """The value that differs in upper and lower case alone, as a question."""
    known = map(str, schema.get("items", schema).get("enum", ()))
    near = next((one for one in known if one.lower() == str(value).lower()), "")
    return f". Did you mean {near}?" if near else ""


def _given(value: Any) -> str:
    """The value as it was given; of a long one the start and its length."""
    try:
        text = str(value)
    except ValueError:  # of an integer with thousands of digits, which YAML has read in another base than ten
        text = hex(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"
