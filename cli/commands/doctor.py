"""`ftq doctor`: the findings of client and worker, as a table or as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from cli.common import json_option, note, open_database, print_json
from ftq.errors import lines, printable
from ftq.programs import lacking
from ftq.version import VERSION
from ftq.words import plural

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from ftq.doctor.findings import Finding

TEXT = ""  # the heading of what is found
WORKER_SECONDS = 4.5  # from the start of the worker's process: its checks may take 3.8, its imports the rest
LEAST_SECONDS = 0.25  # to read what it has said, where the client's checks took longer
# level -> (colour, symbol where the terminal has UTF-8)
LOOKS = {"ok": ("green", "✓"), "note": ("cyan", "·"), "warning": ("yellow", "!"), "problem": ("red", "✗")}


@click.command()
@click.option("--deep", is_flag=True, help="Also train, export and ask the tiny model here, in minutes.")
@click.option(
    "--model", metavar="NAME", help="With --deep: only begin to train this one, so that the first run needn't wait."
)
@click.option("--flower", metavar="URL", help="Where Flower listens.  [default: where ftq up started it]")
@click.option("--take-broker", is_flag=True, help="First give the broker to this database, from one without workers.")
@json_option
def doctor(deep: bool, model: str | None, flower: str | None, take_broker: bool, as_json: bool) -> None:
    """Look for what could keep a run from succeeding.

    Each finding comes with its fix. Takes five seconds at most, whatever hangs. Where the worker is installed,
    its GPU, compiler, memory, packages and llama.cpp are examined too. Exit code 1 if there is a problem.

    \b
    Examples:
      ftq doctor
      ftq doctor --deep
      ftq doctor --deep --model phi-3.5-mini
      ftq doctor --json
    """
    if model and not deep:
        raise click.UsageError("--model goes with --deep, which trains: ftq doctor --deep --model NAME")
    missing = lacking()
    if deep and missing:
        raise click.ClickException(
            f"--deep trains, and the worker isn't installed here ({', '.join(missing)} missing)\n"
            "Run it where `ftq worker` runs."
        )
    if take_broker:
        _take_broker()
    until = time.monotonic() + WORKER_SECONDS
    process = None if missing else _start("worker.doctor.checks", stderr=subprocess.PIPE)  # it works while we import
    from ftq.doctor import client
    from ftq.doctor.findings import examine, worst
    from ftq.settings import Settings

    parts = {"client": list(examine(client.checks(Settings.from_env(), flower)))}
    parts["worker"] = _left_out(missing) if process is None else _collect(process, until)
    if not as_json:
        _print(parts)
    if deep:
        parts["deep"] = _deep(model)
        if not as_json:
            _print({"deep": parts["deep"]})
    everything = [finding for findings in parts.values() for finding in findings]
    if as_json:
        print_json(_as_dict(parts, worst(everything)))
    else:
        note(_summary(everything))
    if worst(everything) == "problem":
        click.get_current_context().exit(1)


def _take_broker() -> None:
    from ftq.doorbell.bell import Doorbell

    client = open_database("Do it where the workers run.")
    Doorbell(client.settings, lambda: client.store).take()
    note("The broker belongs to this database now.")


# ---- the worker's half, in a process of its own -----------------------------------------------------------


def _start(*module: str, stderr: int | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ftq.start", *module]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, encoding="utf-8")


def _collect(process: subprocess.Popen[str], until: float) -> list[Finding]:
    """The worker's findings until `until` (of time.monotonic), and a warning if it wasn't done by then."""
    from ftq.doctor.findings import Finding

    try:
        said, complaint = process.communicate(timeout=max(LEAST_SECONDS, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        message = f"the worker's checks weren't done within {WORKER_SECONDS:g} s: the machine may be busy"
        late = Finding("worker", "warning", message, "python -m worker.doctor.checks   shows all of them")
        return [*_parse(said.rpartition("\n")[0]), late]
    return _parse(said) + _broken(process, complaint, "python -m worker.doctor.checks")


def _deep(model: str | None) -> list[Finding]:
    """Run the deep checks. Their process shows its steps on standard error."""
    process = _start("worker.doctor.deep", *([model] if model else []))
    try:
        said, _ = process.communicate()
    except BaseException:  # Ctrl-C reaches it as well: let it tidy up
        process.wait()
        raise
    return _parse(said) + _broken(process, "", "python -m worker.doctor.deep")


def _parse(said: str) -> list[Finding]:
    """The findings of a doctor's process; a library may have printed lines of its own among them."""
    from ftq.doctor.findings import Finding

    return [Finding(**json.loads(line)) for line in said.splitlines() if line.startswith('{"check": ')]


def _broken(process: subprocess.Popen[str], complaint: str, command: str) -> list[Finding]:
    from ftq.doctor.findings import Finding

    if process.returncode == 0:
        return []
    last = (complaint.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    return [Finding("worker", "problem", f"the worker's checks failed: {last}", f"{command}   shows the whole")]


def _left_out(missing: list[str]) -> list[Finding]:
    from ftq.doctor.findings import Finding

    message = f"only the client is installed here ({', '.join(missing)} missing): the worker's checks are left out"
    fix = "None is needed to submit. `ftq doctor` on a worker's machine has them."
    return [Finding("worker", "note", message, fix)]


# ---- what people and scripts see --------------------------------------------------------------------------


def _as_dict(parts: dict[str, list[Finding]], verdict: str) -> dict[str, Any]:
    findings = [{"where": where, **vars(finding)} for where, group in parts.items() for finding in group]
    return {"ftq": VERSION, "verdict": verdict, "findings": findings}


def _print(parts: dict[str, list[Finding]]) -> None:
    from cli.screens.terminal import console, has_symbols, put

    out = console()
    for where, findings in parts.items():
        put(out, _table(where, findings, has_symbols(out)))
        click.echo()


def _table(where: str, findings: list[Finding], symbols: bool) -> RenderableType:
    from rich.text import Text

    from cli.screens.terminal import Rows

    table, before = Rows((where.upper(), " ", TEXT), folds={TEXT: 20}), ""
    for finding in findings:
        colour, symbol = LOOKS[finding.level]
        level = Text(f"{symbol} {finding.level}" if symbols else finding.level, colour)
        first, *others = _lines(finding)
        table.add("" if finding.check == before else finding.check, level, first)
        for line in others:
            table.add("", "", line)
        before = finding.check
    return table


def _lines(finding: Finding) -> list[Text]:
    """The finding, and what to type."""
    from rich.text import Text

    took = "" if finding.seconds is None else f"{finding.seconds:.1f} s: "
    said = [Text(line) for line in lines(printable(took + finding.message)) or [""]]
    if not finding.fix or finding.level == "ok":
        return said
    style = "bold" if finding.level == "problem" else "dim"
    return said + [Text(line, style) for line in lines(f"-> {printable(finding.fix)}")]


def _summary(findings: list[Finding]) -> str:
    count = {level: sum(finding.level == level for finding in findings) for level in ("problem", "warning")}
    said = [plural(number, level) for level, number in count.items() if number]
    return f"{' and '.join(said)} found." if said else "Nothing stands in the way."
