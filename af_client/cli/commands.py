"""``af``: analysis sessions from the command line. Also installed as ``kubectl-af``, so that ``kubectl af`` works."""

from __future__ import annotations

import json
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from af_client.cli import logs
from af_client.cli.command_line import Commands, Workers, addressed, common, connect, known, print_json
from af_client.cli.dask import dask
from af_client.cli.models import models
from af_client.cli.resizing import Resize
from af_client.cli.running import RunOptions, SessionRun, prepare
from af_client.cli.screen import Screen, watched
from af_client.cli.signals import until_ctrl_c
from af_client.errors import BadInput, NotFound, ResultsError
from af_client.follow import Follower
from af_client.model import Session
from af_client.opening import openable
from af_client.pools import find
from af_client.progress import age, explain, parts, size, troubles
from af_client.terminal import shown


def _version() -> str:
    try:
        return version("af-operator")
    except PackageNotFoundError:
        return "from a source tree"


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "AF", "max_content_width": 100},
    epilog="Also reachable as `kubectl af`. Uses your kubeconfig, as kubectl does.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(_version(), prog_name="af")
def cli(debug: bool) -> None:
    """Run analyses on a Kubernetes analysis facility, and look after them.

    \b
    Examples:
      af run examples/zmumu/session.yaml            run, follow, end with the analysis' exit code
      af run session.yaml --set spec.dask.pools[0].workers.max=4 -o out
      af status zmumu-x7k2p                         what is it waiting for?
      af results zmumu-x7k2p -o out                 fetch what it left in $AF_RESULTS
      af open lab                                   JupyterLab in your browser
      af dask lab -- python analysis.py             a program of this machine computes with the session's Dask
      af models predict lab topjet jets.csv         what a model that the session serves says of each row
    """


cli.add_command(dask)
cli.add_command(models)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--name", metavar="NAME", help="Name of the session.  [default: the file's]")
@click.option("--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Set a field; may be given often.")
@click.option("--include", multiple=True, type=click.Path(path_type=Path), help="One more source file.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the session to its end.")
@click.option("--rm/--keep", "remove", default=False, help="Delete the session at the end.  [default: keep]")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Longest time to wait.")
@click.option("-o", "directory", type=click.Path(path_type=Path, file_okay=False), help="Fetch the results to here.")
@common
@click.pass_context
def run(ctx: click.Context, /, namespace: str | None, context: str | None, output: str, **options: Any) -> None:
    """Create the session of FILE and follow it.

    Files beside FILE that the command names travel in the session (text, 256 KiB in all). Progress goes to stderr,
    the run's log to stdout. Ends with the exit code of the analysis; 124 when time was over; 1 when it was refused.

    \b
    Examples:
      af run session.yaml
      af run session.yaml --include cuts.json --set spec.run.activeDeadlineSeconds=600
      af run session.yaml --no-wait --output json
    """
    chosen = RunOptions(**options, json=output == "json")
    if not chosen.wait and (chosen.remove or chosen.directory or chosen.timeout):
        raise BadInput("--no-wait ends at once: --rm, --timeout and -o need --wait")
    if chosen.file == Path("-") and sys.stdin.isatty():
        raise BadInput("FILE is - but stdin is a terminal: give a file, or pipe one in")
    body = prepare(chosen)  # before any connection: a wrong file is said at once
    running = SessionRun(connect(ctx, namespace, context), chosen)
    if not chosen.wait:
        session = running.start(body)
        print_json(session.body) if chosen.json else click.echo(session.name)
        return
    ending = running.complete(body)
    if chosen.json:
        print_json(ending.report())
    ctx.exit(ending.exit_code)


@cli.command("list")
@click.option("-A", "--all-namespaces", is_flag=True, help="The sessions of all namespaces.")
@common
@click.pass_context
def list_(ctx: click.Context, namespace: str | None, context: str | None, output: str, all_namespaces: bool) -> None:
    """List sessions."""
    sessions = connect(ctx, namespace, context)
    found = sessions.list(all_namespaces)
    if output == "json":
        print_json({"items": [session.body for session in found]})
    elif found:
        # Into a pipe goes everything, however wide.
        width = None if sys.stdout.isatty() else 1000
        Console(highlight=False, markup=False, width=width).print(_listing(found, all_namespaces))
    else:
        where = "any namespace" if all_namespaces else f"namespace {sessions.namespace}"
        click.echo(f"no sessions in {where}", err=True)


def _listing(found: Sequence[Session], all_namespaces: bool) -> Table:
    columns = (["NAMESPACE"] if all_namespaces else []) + ["NAME", "USER", "MODE", "PHASE", "WORKERS", "AGE"]
    table = Table(*columns, box=None, pad_edge=False, header_style="")
    for column in table.columns:
        column.no_wrap = True
    now = datetime.now(UTC)
    for session in found:
        ready, desired = (sum(getattr(p, field) for p in session.pools) for field in ("ready", "desired"))
        workers = f"{ready}/{desired}" if session.pools else ""
        row = [session.name, session.user, session.mode, session.phase, workers, age(session.created, now)]
        table.add_row(*([session.namespace] if all_namespaces else []), *row)
    return table


@cli.command()
@click.argument("name")
@common
@click.pass_context
def status(ctx: click.Context, namespace: str | None, context: str | None, output: str, name: str) -> None:
    """Say what a session is waiting for, or how it ended."""
    session = known(connect(ctx, namespace, context).get(name))
    if output == "json":
        print_json(session.body)
        return
    click.echo(f"{session.name}  {session.phase or 'new'}  ({session.mode}, {session.user})")
    for line in explain(session):
        click.echo(shown(f"  {addressed(line, ctx)}", sys.stdout))
    for condition in () if session.ended or session.deleting else [*troubles(session), *parts(session)]:
        mark = "!!" if condition in troubles(session) else "ok" if condition.status else "--"
        click.echo(shown(f"  {mark} {condition.type:<14} {condition.reason}", sys.stdout))
    if session.last_activity:
        click.echo(f"  last active {age(session.last_activity, datetime.now(UTC))} ago")


@cli.command("logs")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--tail", type=click.IntRange(min=0), metavar="LINES", help="Only the last lines.")
@click.option("--worker", is_flag=False, flag_value="", metavar="[POOL|POD]", help="Of workers: all, a pool's, or one.")
@click.option("--scheduler", is_flag=True, help="Of the Dask scheduler.")
@click.option("--spark", is_flag=True, help="Of the Spark server.")
@click.option("--cache", is_flag=True, help="Of the cache.")
@click.option("--notebook", is_flag=True, help="Of the notebook server.")
@click.option("--inference", is_flag=True, help="Of the model service.")
@common
@click.pass_context
def logs_(ctx: click.Context, /, namespace: str | None, context: str | None, output: str, **options: Any) -> None:
    """Print the log of a session's run, or of another of its programs: of these, the last 200 lines of each.

    \b
    Examples:
      af logs -f zmumu-x7k2p
      af logs zmumu-x7k2p --worker                 all workers that have a log
      af logs zmumu-x7k2p --worker gpu --tail 20   those of a pool
      af logs zmumu-x7k2p --scheduler
    """
    wanted = logs.wanted_of(options)
    sessions = connect(ctx, namespace, context)
    session = known(sessions.get(options["name"]))

    def write(text: str) -> None:
        line = json.dumps({"line": text}, ensure_ascii=False) if output == "json" else shown(text, sys.stdout)
        click.echo(line)

    logs.print_log(sessions, session, wanted, write, lambda text: click.echo(shown(text, sys.stderr), err=True))


@cli.command()
@click.argument("name")
@click.option("-o", "directory", type=click.Path(path_type=Path, file_okay=False), help="Fetch the files to here.")
@click.option("--list", "only_list", is_flag=True, help="Only list them (what happens without -o).")
@common
@click.pass_context
def results(ctx: click.Context, /, namespace: str | None, context: str | None, output: str, **options: Any) -> None:
    """List or fetch what a run left in $AF_RESULTS; each file's size and adler32 are verified."""
    if options["only_list"] and options["directory"]:
        raise BadInput("give either --list or -o DIR")
    remote = connect(ctx, namespace, context).results(options["name"])
    directory = options["directory"]
    files = remote.download(directory) if directory else remote.files()
    if output == "json":
        where = str(directory) if directory else None
        print_json({"url": remote.url, "directory": where, "files": [asdict(file) for file in files]})
    elif directory:
        click.echo(f"{len(files)} files, {size(sum(f.bytes for f in files))} in {directory}")
    else:
        for file in files:
            click.echo(f"{file.bytes:>12} {file.adler32} {file.url}")
        if not files:
            raise ResultsError(f"session {options['name']} left no files: a run's results are what lies in $AF_RESULTS")


@cli.command("open")
@click.argument("name")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of this machine.  [default: a free one]")
@click.option("--browser", is_flag=True, help="Open it in a browser of this machine.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Longest time to wait.")
@common
@click.pass_context
def open_(ctx: click.Context, /, namespace: str | None, context: str | None, output: str, **options: Any) -> None:
    """Reach a session's notebook from this machine: wait for it, then print its URL, until Ctrl-C.

    The URL holds a token: who has it can do what you can do in the notebook. The notebook goes on when this ends.

    \b
    Examples:
      af open lab
      af open lab --port 8888 --browser
    """
    sessions, name = connect(ctx, namespace, context), options["name"]
    screen = Screen()
    if not openable(sessions.get(name)):
        follower = Follower(sessions, name, options["timeout"], until=openable)
        watched(sessions, follower, screen, f"the notebook of session {name} is not ready")
    with sessions.open(name, options["port"], say=screen.say) as notebook, until_ctrl_c():
        click.echo(json.dumps(notebook.report()) if output == "json" else notebook.lab)
        if options["browser"] and not webbrowser.open(notebook.lab):
            screen.say("there is no browser here: open the URL yourself")
        screen.say(f"connected; Ctrl-C ends the connection, `af suspend {name}` the notebook")
        notebook.wait()


@cli.command()
@click.argument("name")
@click.argument("pool", metavar="[COMPONENT/]POOL")
@click.argument("workers", type=Workers(), metavar="N|MIN..MAX")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the pool has its workers.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Longest time to wait.")
@common
@click.pass_context
def scale(ctx: click.Context, /, namespace: str | None, context: str | None, output: str, **options: Any) -> None:
    """Give a pool of a session another number of workers, while it computes.

    N is a fixed number; MIN..MAX makes the pool elastic: as many as its tasks ask for. Workers that go have their
    results copied to others first. COMPONENT is needed where several have a POOL of that name.

    \b
    Examples:
      af scale zmumu-x7k2p cpu 8
      af scale zmumu-x7k2p spark/cpu 8
      af scale zmumu-x7k2p gpu 0..2
      af scale zmumu-x7k2p inference 3
    """
    sessions, name = connect(ctx, namespace, context), options["name"]
    session = known(sessions.scale(name, options["pool"], *options["workers"]))
    resize = Resize(find(session, options["pool"]), *options["workers"])
    if not options["wait"]:
        _changed(session, output, f"{resize}; `af status {name}` says how far it is")
        return
    follower = Follower(sessions, name, options["timeout"], until=resize.over)
    session = watched(sessions, follower, Screen(), f"pool {resize.pool} of session {name} has not got its workers")
    _changed(session, output, resize.result(session))


@cli.command()
@click.argument("name")
@common
@click.pass_context
def suspend(ctx: click.Context, namespace: str | None, context: str | None, output: str, name: str) -> None:
    """Let a session's compute go; the session stays."""
    _changed(connect(ctx, namespace, context).suspend(name), output, f"suspending: `af resume {name}` brings it back")


@cli.command()
@click.argument("name")
@common
@click.pass_context
def resume(ctx: click.Context, namespace: str | None, context: str | None, output: str, name: str) -> None:
    """Bring a suspended session's compute back."""
    _changed(connect(ctx, namespace, context).resume(name), output, f"resuming: `af status {name}` says how far it is")


def _changed(session: Session, output: str, said: str) -> None:
    said = addressed(f"session {session.name} {said}", click.get_current_context())
    print_json(session.body) if output == "json" else click.echo(said)


@cli.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--ignore-not-found", is_flag=True, help="It is no error if there is none, as for kubectl.")
@common
@click.pass_context
def delete(ctx: click.Context, /, namespace: str | None, context: str | None, output: str, **options: Any) -> None:
    """Delete a session and what it made in the cluster; its results at the storage stay."""
    sessions, name = connect(ctx, namespace, context), options["name"]
    if not options["yes"]:
        if not sys.stdin.isatty():
            raise BadInput("nobody can be asked here: give --yes")
        click.confirm(f"delete session {name} in namespace {sessions.namespace}?", abort=True, err=True)
    try:
        sessions.delete(name)
    except NotFound:
        if not options["ignore_not_found"]:
            raise
        deleted, said = None, f"there is no session {name}"
    else:
        deleted, said = name, f"session {name} deleted"
    report = {"deleted": deleted, "namespace": sessions.namespace}
    print_json(report) if output == "json" else click.echo(said)


def main() -> None:
    """Entry point of the console scripts."""
    plugin = Path(sys.argv[0]).name == "kubectl-af"
    cli(prog_name="kubectl af" if plugin else "af")
