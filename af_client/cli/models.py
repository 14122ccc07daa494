"""``af models``: the models that a session serves, from a user's machine, or inside the session itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from af_client.cli.command_line import common, connect, print_json
from af_client.cli.csv_table import CsvTable, write
from af_client.cli.screen import Screen, watched
from af_client.errors import BadInput
from af_client.follow import Follower
from af_client.model_files import PICKLES, About
from af_client.model_service import URL
from af_client.models import Models
from af_client.opening import MODELS, openable

INSIDE = "AF_SESSION"
"""Names the session around this process."""
PARAM = "KEY=VALUE"


@click.group()
def models() -> None:
    """See, add, delete and ask the models that a session serves.

    They are reached through the API server, with the token in the session's Secret: your own sessions' only. Inside a
    session's pod, by what the environment says.

    \b
    Examples:
      af models list lab
      af models push lab topjet.onnx
      af models push lab bdt.json --name bdt --sample jets.csv
      af models predict lab bdt jets.csv -o scores.csv
    """


@contextmanager
def _reached(ctx: click.Context, options: dict[str, Any], screen: Screen) -> Iterator[Models]:
    """Yield the models of a session; wait for their service first."""
    name = options["session"]
    if os.environ.get(INSIDE) == name and os.environ.get(URL):
        yield Models()
        return
    sessions = connect(ctx, options["namespace"], options["context"])
    until = partial(openable, server=MODELS)
    if not until(sessions.get(name)):
        follower = Follower(sessions, name, options["timeout"], until=until)
        watched(sessions, follower, screen, f"the model service of session {name} is not ready")
    with sessions.models(name, say=screen.say) as found:
        yield found


def _reaching(command: Any) -> Any:
    """Add what every command has that reaches a service."""
    command = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Longest wait for the service.",
    )(command)
    return click.pass_context(common(command))


@models.command("list")
@click.argument("session")
@_reaching
def list_(ctx: click.Context, /, output: str, **options: Any) -> None:
    """List the models of SESSION, with all their versions."""
    with _reached(ctx, options, Screen()) as found:
        served = found.list()
    if output == "json":
        print_json({"items": [asdict(model) for model in served]})
        return
    if not served:
        click.echo(f"no models yet: af models push {options['session']} FILE adds one", err=True)
        return
    table = Table("NAME", "VERSION", "STATE", box=None, pad_edge=False, header_style="")
    for model in served:
        table.add_row(model.name, model.version, "ready" if model.ready else model.reason or "not loaded")
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1000).print(table)


@models.command()
@click.argument("session")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--name", metavar="NAME", help="Name of the model.  [default: the file's]")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="Its version.  [default: the next]")
@click.option("--labels", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Classes, one in a line.")
@click.option("--description", default="", metavar="TEXT", help="What it is, for those who list the models.")
@click.option("--sample", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="CSV: rows to compare on.")
@click.option("--param", "params", multiple=True, metavar=PARAM, help="More for params.json; may be given often.")
@click.option("--unpickle", is_flag=True, help="Load a pickle of your own: it is a program, and runs here.")
@_reaching
def push(ctx: click.Context, /, output: str, **options: Any) -> None:
    """Add the model in FILE to SESSION, or a new version of it.

    ONNX files (.onnx), Keras models (.keras), SavedModels (a directory) and frozen graphs (.pb, with --param
    input_node=NAME --param output_node=NAME) go as they are. Trees of XGBoost (.json, .ubj) and LightGBM (.txt) are
    converted here, and so is what scikit-learn has pickled (.joblib, .pkl; only with --unpickle); before it is sent,
    the converted model must answer as the original does, to 1e-5.

    \b
    Examples:
      af models push lab topjet.onnx --labels classes.txt
      af models push lab bdt.json --name bdt --sample jets.csv
      af models push lab forest.joblib --unpickle
    """
    file: Path = options["file"]
    name = options["name"] or file.stem
    labels = options["labels"].read_text().splitlines() if options["labels"] else ()
    about = About(labels, options["description"], options["version"], dict(map(_param, options["params"])))
    model = _unpickled(file) if options["unpickle"] else file
    sample = _sample(options["sample"]) if options["sample"] else None
    screen = Screen()
    with _reached(ctx, options, screen) as found, _bar(name) as bar:
        version = found.push(name, model, sample, about, bar)
    if output == "json":
        print_json({"name": name, "version": version})
    else:
        click.echo(f"model {name}, version {version}: af models predict {options['session']} {name} FILE.csv asks it")


def _param(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise BadInput(f"--param {text!r}: write {PARAM}")
    return key, value


def _unpickled(file: Path) -> Any:
    if file.suffix.lower() not in PICKLES:
        raise BadInput(f"{file} is no pickle ({', '.join(sorted(PICKLES))}): leave --unpickle out")
    try:
        import joblib  # noqa: PLC0415 - comes with scikit-learn, which `af` can do without

        return joblib.load(file)
    except ImportError as error:
        raise BadInput(f"{file} cannot be loaded here: {error}: pip install 'af-operator[convert]'") from error
    except Exception as error:  # whatever is in it runs
        raise BadInput(
            f"{file} cannot be loaded here: {error}: load it where it was trained, and push it from Python"
        ) from error


def _sample(path: Path) -> Any:
    return next(CsvTable(path).parts(), None)


@contextmanager
def _bar(name: str) -> Iterator[Any]:
    """Yield what is called with the progress; on a terminal it is drawn."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"model {name}", total=None)

        def show(sent: int, whole: int) -> None:
            done = "sent; the service converts and tries it" if sent == whole else f"model {name}"
            progress.update(task, completed=sent, total=whole, description=done)

        yield show


@models.command()
@click.argument("session")
@click.argument("model")
@click.option("--version", metavar="N", help="This version only.  [default: all]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_reaching
def delete(ctx: click.Context, /, output: str, **options: Any) -> None:
    """Delete a MODEL that was pushed to SESSION."""
    name, version = options["model"], options["version"]
    what = f"model {name}" + (f", version {version}" if version else "")
    if not options["yes"]:
        if not sys.stdin.isatty():
            raise BadInput("nobody can be asked here: give --yes")
        click.confirm(f"delete {what} of session {options['session']}?", abort=True, err=True)
    with _reached(ctx, options, Screen()) as found:
        found.delete(name, version)
    print_json({"deleted": name, "version": version}) if output == "json" else click.echo(f"{what} deleted")


@models.command()
@click.argument("session")
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--version", metavar="N", help="Version of the model.  [default: the highest]")
@click.option(
    "-o", "answers", type=click.Path(path_type=Path, dir_okay=False), help="Write to here.  [default: stdout]"
)
@_reaching
def predict(ctx: click.Context, /, output: str, **options: Any) -> None:
    """Ask MODEL of SESSION about each row of FILE, a CSV of numbers.

    A first line of names may say which column is which input of the model; other names, or none, are the columns of its
    one input, from left to right. The answers are a CSV too, with a first line of names if FILE has one.

    \b
    Examples:
      af models predict lab topjet jets.csv
      af models predict lab topjet jets.csv --version 2 -o scores.csv
    """
    answers: Path | None = options["answers"]
    if output == "json" and not answers:
        raise BadInput("with --output json the answers go into a file: give -o FILE")
    table = CsvTable(options["file"])  # before any connection: a wrong file is said at once
    screen = Screen()
    with _reached(ctx, options, screen) as found, _target(answers) as target:
        version, rows = _scored(found, options, table, target)
    if output == "json":
        print_json({"model": options["model"], "version": version, "rows": rows, "file": str(answers)})
    else:
        screen.say(f"{rows} rows by version {version}" + (f" in {answers}" if answers else ""))


def _scored(found: Models, options: dict[str, Any], table: CsvTable, target: Any) -> tuple[str, int]:
    signature = found.signature(options["model"], options["version"])
    version = options["version"] or signature.versions[-1]  # one for all parts
    names = [tensor.name for tensor in signature.outputs]
    rows = 0
    for part in table.parts():
        try:
            answer = found.predict(options["model"], part, version)
        except BadInput as error:
            raise BadInput(f"{options['file']}: {error}") from error
        answer = answer if isinstance(answer, dict) else {names[0]: answer}
        write(target, answer, bool(table.names) and not rows)
        rows += len(answer[names[0]])
    return version, rows


@contextmanager
def _target(path: Path | None) -> Iterator[Any]:
    """Yield where the answers go; a file is there when it is whole."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", newline="") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
