"""What the commands share: their options and connection, how they read arguments, word suggestions and fail."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import click

from af_client.cli.signals import Stopped, let_go_of_unread, stopping
from af_client.errors import ClientError
from af_client.model import Session
from af_client.sessions import Sessions
from af_client.terminal import shown

WHERE, OUTPUT, LAST = "af.where", "af.output", "af.last"
"""In ``ctx.meta``, which all commands of a line share: where they go, what they write, the session that it is about."""
SUGGESTED = re.compile(r"\baf (delete|logs|models \w+|open|results|resume|scale|status|suspend)\b(?! -n)")

_F = TypeVar("_F", bound=Callable[..., Any])


def addressed(text: str, ctx: click.Context) -> str:
    """Return a text whose suggested commands go to where this command went."""
    return SUGGESTED.sub(rf"\g<0>{ctx.meta.get(WHERE, '')}", text)


class Failure(click.ClickException):
    """An error of ours as click shows it: one line, no traceback."""

    def __init__(self, error: ClientError, ctx: click.Context) -> None:
        super().__init__(shown(addressed(str(error), ctx), sys.stderr))
        self.__dict__["exit_code"] = error.exit_code  # click declares it for the class, and reads the instance


class Commands(click.Group):
    """The commands; turns what the client raises into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            with stopping():
                return super().invoke(ctx)
        except ClientError as error:
            _report(ctx, str(error), error.exit_code)
            if ctx.params.get("debug"):
                raise
            raise Failure(error, ctx) from error
        except Stopped as stop:
            with suppress(OSError):
                _report(ctx, f"stopped by {stop}", stop.exit_code)
            let_go_of_unread()
            ctx.exit(stop.exit_code)
        except click.Abort:
            ctx.exit(128 + signal.SIGINT)


def _report(ctx: click.Context, error: str, code: int) -> None:
    """With ``--output json``, write what went wrong to stdout, with the last that was seen of the session."""
    if ctx.meta.get(OUTPUT) == "json":
        last = ctx.meta.get(LAST)
        print_json({"error": error, "exitCode": code, "session": last.body if last else None})


def known(session: Session) -> Session:
    """Keep a session as the last that was seen, for the report of whatever may go wrong; return it."""
    if ctx := click.get_current_context(silent=True):
        ctx.meta[LAST] = session
    return session


def _output(ctx: click.Context, _param: click.Parameter, value: str) -> str:
    ctx.meta[OUTPUT] = value
    return value


def common(command: _F) -> _F:
    """Add the options that every command has."""
    for option in (
        click.option(
            "--output",
            type=click.Choice(["text", "json"]),
            default="text",
            callback=_output,
            is_eager=True,  # an error in another option is told as this one says
            help="json: for programs.",
        ),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig.  [default: the current one]"),
        click.option("-n", "--namespace", metavar="NAME", help="Namespace.  [default: the context's]"),
    ):
        command = option(command)
    return command


def connect(ctx: click.Context, namespace: str | None, context: str | None) -> Sessions:
    """Return the sessions of a namespace; ``ctx.obj`` may bring a connection of its own."""
    given = (("-n", namespace), ("--context", context))
    ctx.meta[WHERE] = "".join(f" {option} {value}" for option, value in given if value)
    return Sessions(namespace, context, transport=ctx.obj)


def print_json(value: Mapping[str, Any]) -> None:
    """Write an object to stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


class Workers(click.ParamType[tuple[int, int]]):
    """``4``, or ``0..8`` for an elastic pool."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (min, max)."""
        least, dots, most = str(value).partition("..")
        try:
            found = int(least), int(most if dots else least)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor a range such as 0..8", param, ctx)
        if not 0 <= found[0] <= found[1]:
            self.fail(f"{value!r}: write the smaller number first, and none below 0", param, ctx)
        return found
