"""Unpack ``body`` into ``source/``: ``python -m af_inference.unpack DIRECTORY … CONTENT_TYPE CONTENT_ENCODING``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from af_inference.convert import formats
from af_inference.errors import Invalid, Unprocessable
from af_inference.sandbox import program
from af_inference.unpack import archive, form

PARAMS_BYTES = 65536


def unpack(folder: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Make ``source/`` of ``body``, and see what it is.

    Parameters
    ----------
    arguments
        Type and encoding of the body's content, as the request has them, and the most bytes that it may unpack to.

    Returns
    -------
    dict
        The model's ``name``, and its ``format``.

    Raises
    ------
    Invalid, TooLarge, Unprocessable
        It is no archive and no form of ours, or too large, or has no model.
    """
    content_type, encoding, most = arguments
    source = folder / "source"
    source.mkdir()
    form_data = "form-data" in content_type.lower()
    if form_data:
        name = form.unpack(folder / "body", content_type, encoding, source)
    else:
        name = archive.unpack(folder / "body", source, int(most))
    (folder / "body").unlink()
    params = _params(source / "params.json", name)
    if form_data and name not in (None, params["name"]):
        raise Invalid(f"the form's name is {name!r}, and params.json says {params['name']!r}")
    kind, model = formats.find(source, params)
    _labels(source, params, model)
    return {"name": params["name"], "format": kind}


def _params(file: Path, name: str | None) -> dict[str, Any]:
    """Return ``params.json``, with the model's name in it: its own, else that of the form or of the directory."""
    if file.is_dir():
        raise Invalid("params.json is a directory, and must be a file")
    params = _read(file) if file.exists() else {}
    if not params.get("name"):  # else the file stays as it was sent: so it is shown
        params["name"] = name
        file.write_text(json.dumps(params))
    if not isinstance(params["name"], str):
        raise Invalid(
            "nothing names the model: say its name in params.json, or put its files into a directory of that name"
        )
    return params


def _labels(source: Path, params: dict[str, Any], model: Path) -> None:
    """Give the file that ``params.json`` calls the labels the name that they have here."""
    named = formats.file_named(source, params.get("labels") or "labels.txt")
    if named in (model, source / "params.json"):
        raise Invalid(f"params.json says that the labels are in {named.name}: put them into a file of their own")
    if named and not (source / "labels.txt").exists():
        named.rename(source / "labels.txt")


def _read(file: Path) -> dict[str, Any]:
    if file.stat().st_size > PARAMS_BYTES:
        raise Invalid(f"params.json has more than {PARAMS_BYTES} bytes")
    try:
        params = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Unprocessable(f"params.json is no JSON: {error}") from None
    if not isinstance(params, dict):
        raise Unprocessable('params.json must be an object, like {"name": "topjet"}')
    return params


if __name__ == "__main__":
    program.main(unpack)
