"""``params.json``: what TFaaS' clients are told of a model."""

from __future__ import annotations

from typing import Any

import orjson

from af_inference.repository import Artifact

# As upstream's server lists them, all of them always; its clients look at all.
KEYS: dict[str, Any] = {
    "name": "",
    "model": "",
    "labels": "",
    "op": "",
    "input_name": "",
    "output_name": "",
    "img_channels": 0,
    "options": None,
    "input_node": "",
    "output_node": "",
    "description": "",
    "timestamp": "",
}


def text(name: str, artifact: Artifact | None) -> bytes:
    """Return a model's ``params.json`` as it was uploaded; of a model that has none, its name alone."""
    file = artifact.beside("params.json") if artifact else None
    return file.read_bytes() if file else orjson.dumps({"name": name})


def read(name: str, artifact: Artifact | None) -> dict[str, Any]:
    """Return it with all keys; a value of another type than upstream's is left out."""
    try:
        found = orjson.loads(text(name, artifact))
    except orjson.JSONDecodeError:
        found = None  # of a catalogue, which others fill
    given = found if isinstance(found, dict) else {}
    return {key: given[key] if _fits(given.get(key), default) else default for key, default in KEYS.items()} | {
        "name": name
    }


def labels(artifact: Artifact | None) -> list[str]:
    """Return the labels of a classifier's classes, in the order of its output; none where it has none."""
    file = artifact.beside("labels.txt") if artifact else None
    return file.read_text(errors="replace").split("\n") if file else []


def _fits(value: object, default: object) -> bool:
    if default is None:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return type(value) is type(default)
