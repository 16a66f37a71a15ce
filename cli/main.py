"""`ftq`, the client: parse -> one call of ftq -> print.

This module and those it imports need click and the standard library only: what is heavy (the database, Celery,
pydantic, rich) is imported inside the commands that use it, so that `ftq --help` is there at once.
"""

from __future__ import annotations

import errno
import os
from itertools import chain
from typing import IO, Any

import click

from cli.commands import ask, check, control, doctor, look, models, room, serve, submit
from cli.common import tell
from cli.evaluation import commands as evaluation
from cli.fleet import notify, workers
from cli.keys import commands as keys
from ftq.errors import lines, printable
from ftq.start import INTERRUPTED, interruptible
from ftq.version import VERSION

EXAMPLES = """\b
A first run, from a folder of documents to a model that answers:
  ftq up                                            everything, on this machine
  ftq submit --model smollm2-135m --documents DIR
  ftq status --watch
  ftq infer RUN "A question?"

\b
RUN is a run's id, its own name, a unique beginning of its id, or a version: handbook:2, handbook:latest.
A name without `:` is always the run of that name, which may be an older version.
Exit codes: 0 done, 1 the run or the operation failed, 2 bad usage, 130 Ctrl-C.
Completion: eval "$(_FTQ_COMPLETE=bash_source ftq)"      (or zsh_source, fish_source)
"""

# The list of commands, each part in the order of a run's life.
PARTS = {
    "Runs": (
        *(check.check, submit.submit, look.options, look.status, look.logs, look.events),
        *(control.cancel, control.pause, control.resume, control.retry, room.keep, room.rm, room.gc),
    ),
    "Models": (
        *(ask.infer, evaluation.evaluate, evaluation.compare, evaluation.report),
        *(models.models, models.promote, models.pull, models.push),
    ),
    "Machines": (serve.up, serve.worker, workers.workers, serve.serve, keys.keys, notify.notify, doctor.doctor),
}

# What other tools call it, or a newcomer.
MEANT = {
    "help": "--help", "version": "--version", "list": "status", "ls": "status", "ps": "status", "show": "status",
    "log": "logs", "stop": "cancel", "kill": "cancel", "abort": "cancel", "continue": "resume", "delete": "rm",
    "remove": "rm", "prune": "gc", "train": "submit", "run": "submit", "finetune": "submit", "fine-tune": "submit",
    "ask": "infer", "chat": "infer", "generate": "infer", "evaluate": "eval", "diff": "compare", "download": "pull",
    "export": "pull", "upload": "push", "start": "up", "server": "serve", "key": "keys", "config": "options",
    "validate": "check",
}  # fmt: skip


class Failure(click.ClickException):
    """The operation failed: what happened, and what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        first, *others = lines(printable(self.message)) or [""]
        tell(click.style("Error: ", fg="red") + first, file, err=True, color=self.show_color)
        for line in others:
            tell(f"       {line}", file, err=True)
        if self.hint:
            tell(printable(self.hint), file, err=True)


class Misuse(Failure):
    """Bad usage: unknown run, option or value."""

    exit_code = 2


class FtqGroup(click.Group):
    """The one place where errors become messages. A traceback is for those who ask for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # as they stand in PARTS, not by the alphabet

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, self.commands))
        room = formatter.width - 6 - longest  # as click has it for its one list
        for heading, commands in PARTS.items():
            with formatter.section(heading):
                names = (str(command.name).ljust(longest) for command in commands)
                helps = (command.get_short_help_str(room) for command in commands)
                formatter.write_dl(list(zip(names, helps, strict=True)))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] in MEANT:
            ctx.fail(f"No such command '{args[0]}'. That is `ftq {MEANT[args[0]]}`.")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interruptible():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("FTQ_DEBUG"):
                raise
            raise _translate(error) from None


def _translate(error: Exception) -> Failure:
    from ftq.errors import FtqError, exit_code, unusable
    from ftq.servers import without_password

    if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):  # ENOSPC: also of the output
        error = unusable(error)
    if isinstance(error, FtqError):
        failure = Misuse if exit_code(error) == Misuse.exit_code else Failure
        return failure(error.message, error.hint)
    text = without_password(lines(f"{type(error).__name__}: {error}")[0])
    return Failure(f"this shouldn't happen: {text}", "Set FTQ_DEBUG=1 for the traceback.")


@click.group(
    cls=FtqGroup,
    epilog=EXAMPLES,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "color": False if os.environ.get("NO_COLOR") else None,
        "max_content_width": 100,
    },
)
@click.version_option(VERSION, prog_name="ftq", message="%(prog)s %(version)s")
def main() -> None:
    """A fine-tuning queue: a folder of documents in, a tuned and tested GGUF model out."""
    from ftq.settings import protect_files

    protect_files()


for command in chain.from_iterable(PARTS.values()):
    main.add_command(command)
