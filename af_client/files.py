"""The session file: reading it, ``--set``, and the source files that travel in it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from af_client.errors import BadInput
from af_client.model import API_VERSION, KIND
from af_names import FILE_NAME, MAX_FILE_NAME, MAX_SOURCE_BYTES

MAX_FILES = 64
ELSEWHERE = "put it into the image or a ConfigMap (run.source.configMap), or read it by URL"


class _Loader(yaml.SafeLoader):
    """YAML as the API server needs it: no duplicate keys, and what looks like a date stays a string."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [entry for entry in entries if entry[0] != "tag:yaml.org,2002:timestamp"]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; a key that stands there twice is an error."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands here twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_session(path: Path) -> dict[str, Any]:
    """Return the one AnalysisSession of a file (``-``: of stdin).

    Raises
    ------
    BadInput
        No such file, no YAML, no or several objects, another kind or version.
    """
    label = "stdin" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if label == "stdin" else path.read_text()
        documents = [d for d in yaml.load_all(text, _Loader) if d is not None]
    except OSError as error:
        raise BadInput(f"cannot read {label}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{label} is not a text file") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadInput(f"{label}{line}: no valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise BadInput(f"{label}: no valid YAML: {error}") from error
    if len(documents) != 1:
        raise BadInput(f"{label} holds {len(documents)} objects: `af run` takes one {KIND}; `kubectl apply` takes many")
    return _checked(documents[0], label)


def _checked(body: Any, label: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadInput(f"{label} is not a Kubernetes object: begin with `apiVersion: {API_VERSION}` and `kind: {KIND}`")
    for field, wanted in (("kind", KIND), ("apiVersion", API_VERSION)):
        if body.get(field) != wanted:
            found = f"is {body[field]!r}" if body.get(field) else "is missing"
            raise BadInput(f"{label}: {field} {found}: write `{field}: {wanted}`")
    for field in ("metadata", "spec"):
        if not isinstance(body.setdefault(field, {}), dict):
            raise BadInput(f"{label}: {field} must be a mapping")
    return body


def set_name(body: dict[str, Any], name: str | None, path: Path) -> None:
    """Give the session its name: the option's, else the file's, else one generated from the file's name."""
    meta = body["metadata"]
    if name:
        meta.pop("generateName", None)
        meta["name"] = name
    elif not meta.get("name") and not meta.get("generateName"):
        stem = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:30]
        meta["generateName"] = f"{stem if stem[:1].isalpha() else 'session'}-"


_SEGMENT = r"((?:\\.|[^.\[\]\\])+)((?:\[\d+\])*)"
_PATH = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")


def set_value(body: dict[str, Any], assignment: str) -> None:
    """Set one value: ``spec.dask.pools[0].workers.max=4``.

    The value is YAML (``4``, ``true``, ``[a, b]``; quotes keep a string); ``null`` removes the field. Missing
    mappings are made; an index one past the end appends. A dot in a key is written ``\\.``.

    Raises
    ------
    BadInput
        The assignment cannot be read, or does not fit the object.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise BadInput(f"--set {assignment}: write path=value, e.g. --set spec.dask.pools[0].workers.max=4")
    try:
        value = yaml.load(text, _Loader) if text else ""  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise BadInput(f"--set {assignment}: {text!r} is no YAML value: put it into quotes") from error
    steps = _steps(path, assignment)
    at: Any = body
    for position, step in enumerate(steps[:-1]):
        following: Any = [] if isinstance(steps[position + 1], int) else {}
        at = _enter(at, step, following, f"--set {assignment}: {_spelled(steps[: position + 1])}")
    _assign(at, steps[-1], value, f"--set {assignment}: {_spelled(steps)}")


def _steps(path: str, assignment: str) -> list[str | int]:
    if not _PATH.fullmatch(path):
        raise BadInput(f"--set {assignment}: cannot read the path {path!r}: write it as spec.dask.pools[0].workers.max")
    steps: list[str | int] = []
    for key, indices in re.findall(_SEGMENT, path):
        steps.append(re.sub(r"\\(.)", r"\1", key))
        steps += [int(index) for index in re.findall(r"\d+", indices)]
    return steps


def _spelled(steps: Sequence[str | int]) -> str:
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")


def _enter(at: Any, step: str | int, following: Any, label: str) -> Any:
    _fits(at, step, label)
    if isinstance(step, int):
        if step == len(at):
            at.append(following)
        return at[step]
    if at.get(step) is None:
        at[step] = following
    return at[step]


def _assign(at: Any, step: str | int, value: Any, label: str) -> None:
    _fits(at, step, label)
    if isinstance(step, int):
        at[step : step + 1] = [] if value is None else [value]
    elif value is None:
        at.pop(step, None)
    else:
        at[step] = value


def _fits(at: Any, step: str | int, label: str) -> None:
    wanted = list if isinstance(step, int) else dict
    if not isinstance(at, wanted):
        raise BadInput(f"{label}: there is {'no list' if wanted is list else 'no mapping'} to take {step!r} from")
    if isinstance(step, int) and step > len(at):
        raise BadInput(f"{label}: the list has {len(at)} items: the next index is {len(at)}")


def fill_source(body: dict[str, Any], folder: Path, include: Iterable[Path] = ()) -> list[str]:
    """Put into ``run.source.files`` what the command names in `folder`, and what is included; return the names.

    Files that are there already stay; a session whose source is a ConfigMap is left alone.

    Raises
    ------
    BadInput
        A file is no text, is not flat, or all together are too large.
    """
    include = list(include)
    run = body["spec"].get("run")
    source = run.get("source") or {} if isinstance(run, dict) else {}
    if not isinstance(run, dict) or not isinstance(source, dict) or source.get("configMap"):
        if include:
            raise BadInput("--include has nowhere to go: it needs spec.run, without run.source.configMap")
        return []
    files = dict(source.get("files") or {})
    wanted = _named_by(run.get("command"), folder) | _included(include, folder)
    added = {name: _text(path) for name, path in wanted.items() if name not in files}
    files |= added
    _bounded(files)
    if added:
        run["source"] = {**source, "files": files}
    return sorted(added)


def _named_by(command: Any, folder: Path) -> dict[str, Path]:
    found = {}
    for token in command if isinstance(command, list) else []:
        word = str(token)
        word = word.partition("=")[2] if word.startswith("-") else word
        if not word or len(word) > 255 or Path(word).is_absolute() or not (folder / word).is_file():
            continue
        if len(Path(word).parts) != 1:
            raise BadInput(f"the command names {word}: source files are flat: move it beside the session file")
        found[_flat(folder / word)] = folder / word
    return found


def _included(paths: Iterable[Path], folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        chosen = path if path.is_file() else folder / path
        if path.is_dir() or chosen.is_dir():
            raise BadInput(f"--include {path}: that is a directory, and source files are flat: name each file in it")
        if not chosen.is_file():
            raise BadInput(f"--include {path}: no such file here or in {folder}")
        if found.setdefault(_flat(chosen), chosen) != chosen:
            raise BadInput(f"--include {path}: two files are called {chosen.name}: source files are flat")
    return found


def _flat(path: Path) -> str:
    if not re.fullmatch(FILE_NAME, path.name) or len(path.name) > MAX_FILE_NAME:
        raise BadInput(f"{path.name!r} cannot be a source file's name: letters, digits, '_', '-', '.'; 100 characters")
    return path.name


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_SOURCE_BYTES:
            raise BadInput(f"{path} has {path.stat().st_size} bytes; all source files have 256 KiB: {ELSEWHERE}")
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is a binary file: only text travels in a session: {ELSEWHERE}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    if "\0" in text:
        raise BadInput(f"{path} is a binary file: only text travels in a session: {ELSEWHERE}")
    return text


def _bounded(files: dict[str, Any]) -> None:
    sizes = {name: len(str(text).encode()) for name, text in files.items()}
    if (total := sum(sizes.values())) > MAX_SOURCE_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise BadInput(
            f"the source files have {total} bytes, more than 256 KiB (the largest is {largest}, "
            f"{sizes[largest]} bytes): {ELSEWHERE}"
        )
    if len(files) > MAX_FILES:
        raise BadInput(f"{len(files)} source files, more than {MAX_FILES}: {ELSEWHERE}")
