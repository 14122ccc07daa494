"""The model, in the session's inference service, by the Open Inference Protocol (v2) over HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from .history import FEATURES

FLOATS = ("FP32", "FP64")
MOST_BYTES = 1_048_576


class Unavailable(Exception):
    """No answer, or not one that can be used; says why."""


class Model:
    """A classifier whose one input is rows of `FEATURES`; what it says last of a row is the probability of use again.

    It keeps one connection, and is asked by one thread at a time.

    Parameters
    ----------
    url
        The service's address: ``http://host:port``.
    token
        File with the token of the session's own service, which gets another one whenever it is made anew.
    name
        Of the model; the newest version answers.
    seconds
        Within which each step of an answer must come.
    """

    def __init__(self, url: str, token: Path, name: str, seconds: float) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=seconds)
        self._path = f"/v2/models/{quote(name, safe='')}"
        self._token = token
        self._input: Mapping[str, Any] | None = None

    def probabilities(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Return, for each row of features, the probability that the file is read again; raises Unavailable."""
        try:
            self._input = self._input or _input_of(self._ask("GET", self._path))
            data = [value for row in rows for value in row]
            asked = {**self._input, "shape": [len(rows), len(FEATURES)], "data": data}
            return _last(self._ask("POST", f"{self._path}/infer", {"inputs": [asked]}), len(rows))
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, RecursionError) as error:
            # A new version may have another input.
            self._input = None
            raise Unavailable(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        text = None if body is None else json.dumps(body)
        fresh = self._connection.sock is None
        try:
            return self._exchange(method, path, text)
        except (ConnectionError, http.client.HTTPException):
            # A connection that was kept may have been closed meanwhile: that says nothing of the service.
            if fresh:
                raise
        return self._exchange(method, path, text)

    def _exchange(self, method: str, path: str, text: str | None) -> Any:
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}", "Content-Type": "application/json"}
        try:
            self._connection.request(method, path, text, headers)
            response = self._connection.getresponse()
            content = response.read(MOST_BYTES)
        except BaseException:
            self.close()
            raise
        if response.status != 200:
            raise ValueError(f"{path} answered {response.status}: {content[:200]!r}")
        return json.loads(content)


def _input_of(metadata: Any) -> Mapping[str, Any]:
    """Return name and type of the model's input."""
    inputs = metadata["inputs"]
    if len(inputs) != 1 or inputs[0]["shape"][-1] not in (-1, len(FEATURES)) or inputs[0]["datatype"] not in FLOATS:
        raise ValueError(f"the model takes {inputs}, not one input of rows of {len(FEATURES)} floats: {FEATURES}")
    return {"name": inputs[0]["name"], "datatype": inputs[0]["datatype"]}


def _last(answer: Any, rows: int) -> list[float]:
    """Return the last number of each row of the last output that has floats: of a classifier, its last class."""
    data = [each for each in answer["outputs"] if each["datatype"] in FLOATS][-1]["data"]
    columns, rest = divmod(len(data), rows)
    values = [float(value) for value in data[columns - 1 :: columns]] if columns and not rest else []
    if not values or not all(0 <= value <= 1 for value in values):
        raise ValueError(f"the model answered {data[:8]}, which are no probabilities, one for each of {rows} rows")
    return values
