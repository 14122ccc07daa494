"""``af dask``: a session's Dask from one's own machine, for a shell, or for one command."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from signal import SIGINT
from typing import Any

import click

from af_client.cli.command_line import common, connect
from af_client.cli.screen import Screen, watched
from af_client.cli.signals import Stopped, asks_a_person, until_ctrl_c
from af_client.errors import BadInput
from af_client.follow import Follower
from af_client.open_dask import DASK, OpenDask, differences, here, needed
from af_client.opening import openable


@click.command()
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="For the scheduler.  [default: a free one]")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Longest time to wait.")
@common
@click.pass_context
def dask(ctx: click.Context, /, namespace: str | None, context: str | None, output: str, **options: Any) -> None:
    """Reach a session's Dask from this machine: wait for it, then run COMMAND, in which `Client()` finds it.

    Without COMMAND it prints what a shell is to export for that, until Ctrl-C. What a client needs is in files that
    only you can read, and that go at the end; the session goes on. Dask must be of the same version here.

    \b
    Examples:
      af dask lab -- python analysis.py
      af dask lab -- jupyter lab
      af dask lab
    """
    if options["command"] and output == "json":
        raise BadInput("stdout is the command's own: leave --output json out, or the command")
    sessions, name, screen = connect(ctx, namespace, context), options["name"], Screen()
    until = partial(openable, server=DASK)
    if not until(sessions.get(name)):
        follower = Follower(sessions, name, options["timeout"], until=until)
        watched(sessions, follower, screen, f"the Dask of session {name} is not ready")
    with sessions.dask(name, options["port"], say=screen.say) as opened:
        for line in compared(opened.versions(), here()):
            screen.say(line)
        if options["command"]:
            ctx.exit(run(options["command"], opened.environment))
        with until_ctrl_c():
            _tell(opened, output)
            screen.say(f"connected; dashboard: {opened.dashboard}; Ctrl-C ends the connection")
            opened.wait()


def _tell(opened: OpenDask, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(opened.report()))
        return
    for name, value in opened.environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def compared(there: Mapping[str, str], own: Mapping[str, str]) -> Iterator[str]:
    """Yield what there is to say of the versions in the session, and those beside `af`."""
    if "distributed" not in own:
        yield f"there is no distributed beside af; your program needs what the session has: {needed(there)}"
    elif different := differences(there, own):
        yield f"warning: {', '.join(different)}: this may fail in odd ways; {needed(there)} has the same"


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, also where something is to end `af` meanwhile; return its exit code as a shell does.

    Raises
    ------
    BadInput
        There is no such program.
    """
    try:
        process = subprocess.Popen(command, env={**os.environ, **environment})
    except OSError as error:
        raise BadInput(f"{command[0]} cannot be run: {error.strerror}") from error
    while True:
        try:
            code = process.wait()
        except Stopped as stop:
            # A terminal has told all in its foreground of a Ctrl-C; the command is one of them.
            if stop.number != SIGINT or not asks_a_person():
                process.send_signal(stop.number)
            continue
        return code if code >= 0 else 128 - code
