"""The client starts fast because it imports little: checked in a fresh interpreter."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "peft",
    "trl",
    "unsloth",
    "xllamacpp",
    "cyllama",
    "worker",
    "celery",
    "kombu",
}


def imported(code: str) -> set[str]:
    """The top-level modules that the code brings into a fresh interpreter."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_the_client_alone_imports_click_and_the_standard_library() -> None:
    found = imported("import cli.main")
    assert not found & (HEAVY | {"sqlalchemy", "pydantic", "rich", "yaml", "redis"})


@pytest.mark.parametrize(
    ("arguments", "not_needed"),
    [
        (["--help"], {"sqlalchemy", "pydantic", "rich"}),
        (["models", "--json"], {"sqlalchemy", "pydantic", "rich"}),
        (["check", str(ROOT / "documents"), "--json"], {"sqlalchemy", "rich"}),
        (["status"], {"pydantic"}),
        (["status", "--json"], {"pydantic", "rich"}),
    ],
)
def test_a_command_imports_what_it_needs(arguments: list[str], not_needed: set[str]) -> None:
    found = imported(f"from cli.main import main\nmain({arguments!r}, standalone_mode=False)")
    assert not found & (HEAVY | not_needed)


def test_the_gateway_begins_with_what_every_request_needs() -> None:
    """Its first answer and its memory are bounded: what one kind of request needs comes with the first of it."""
    code = "import gateway.program, gateway.app\ngateway.app._routes()\nimport sys"
    program = f"{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    parts = ("facts", "questions", "examples", "check", "plan", "spec.options", "evaluation.score", "report.page")
    others = ("jinja2", "httpx", "markdown_it", "worker", "torch", "celery")
    not_needed = tuple(f"{name}." for name in (*(f"ftq.{part}" for part in parts), *others))
    assert not [name for name in done.stdout.split() if f"{name}.".startswith(not_needed)]


def test_the_files_of_the_dependencies_hold_packages_alone() -> None:
    """setuptools takes no `-r other.txt` in them: then nothing can be installed any more."""
    dynamic = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
    files = [dynamic["dependencies"], *dynamic["optional-dependencies"].values()]
    names = [name for one in files for name in one["file"]]
    lines = {name: (ROOT / name).read_text().splitlines() for name in names}
    assert [(name, line) for name in names for line in lines[name] if line.startswith("-")] == []


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_imports_what_is_there(script: Path) -> None:
    """Most of them run on a GPU alone: a name that has moved would be noticed there, after hours."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (ROOT / (node.module or "-").split(".")[0]).is_dir():
            place = ROOT.joinpath(*str(node.module).split("."))
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            names = {word for line in file.read_text().splitlines() for word in re.findall(r"\w+", line)}
            files = {path.stem for path in place.glob("*")}
            assert {name.name for name in node.names} <= names | files, node.module
