"""The models of a session, for notebooks, runs, Dask's tasks and Spark's.

>>> from af_client.models import Models
>>> models = Models()                                   # of the session around this process
>>> models.list()
>>> models.predict("topjet", features)                  # a numpy array: (rows, columns) -> (rows, classes)
>>> models.predict("topjet", events.Jet[["pt", "eta"]]) # an awkward array: an answer for each jet of each event
>>> models.push("bdt", classifier, sample=features)     # of scikit-learn, XGBoost, LightGBM, Keras; or a file
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote, urlencode

from af_client import arrays, open_inference
from af_client.errors import BadInput, ModelRefused
from af_client.model_files import About, Progress, Watched, package
from af_client.model_service import Address, ModelService, Question
from af_client.open_inference import Signature

__all__ = ["About", "Models", "ServedModel"]

IN_FLIGHT = 4
"""Batches of one array that are asked at the same time: the service puts together what waits, and never idles."""
FRESH_SECONDS = 1.0
"""How long it is taken for granted which version is the highest: it need not be asked for each of many small arrays."""
PUSH_SECONDS = 300.0
"""The service converts, and tries what it has got, before it answers."""


@dataclass(frozen=True)
class ServedModel:
    """One version of a model, as the service has it.

    Attributes
    ----------
    ready
        It answers.
    reason
        Why not.
    """

    name: str
    version: str
    ready: bool
    reason: str = ""


class Models:
    """The model service of a session. May be pickled, and used by several threads.

    Parameters
    ----------
    url, token
        Where it is; without them, what the environment says. Pickled without them, it finds the service anew where it
        is unpickled, and takes no token along.
    in_flight
        How many batches of an array are asked at the same time.

    Raises
    ------
    BadInput
        There is no model service here.
    """

    def __init__(self, url: str | None = None, token: str | None = None, *, in_flight: int = IN_FLIGHT) -> None:
        if url is None:
            Address.here()  # said at once, and not with the first question
        self.__setstate__((url, token, in_flight))

    def __getstate__(self) -> tuple[str | None, str | None, int]:
        return self._given

    def __setstate__(self, given: tuple[str | None, str | None, int]) -> None:
        # Asks for no service: Dask's scheduler, which has none, unpickles what it sends on.
        self._given = url, token, self._in_flight = given
        self._service = ModelService(None if url is None else Address(url, token or ""), self._in_flight)
        self._known: dict[tuple[str, str | None], tuple[float, Signature]] = {}

    def list(self) -> list[ServedModel]:
        """Return all versions of all models, by name."""
        index = self._service.ask(Question("POST", "/v2/repository/index", b"{}")).json()
        try:
            found = [
                ServedModel(
                    each["name"], str(each.get("version", "")), each.get("state") == "READY", each.get("reason") or ""
                )
                for each in index
            ]
        except open_inference.WRONG as error:
            raise open_inference.no_answer(error) from error
        return sorted(found, key=lambda model: (model.name, _order(model)))

    def signature(self, model: str, version: str | int | None = None) -> Signature:
        """Return what a model takes and gives.

        Raises
        ------
        ModelRefused
            There is no such model or version.
        """
        return Signature.parse(self._service.ask(Question("GET", _path(model, version))).json())

    def predict(self, model: str, data: Any, version: str | int | None = None, *, output: str | None = None) -> Any:
        """Return what a model says of each row.

        Long arrays are cut into batches, of which several are asked at the same time; all are answered by one version.
        One that somebody else pushes answers a second later at most.

        Parameters
        ----------
        data
            An array of the shape that the model takes, rows first (float64 is rounded to float32, where the model takes
            that); a mapping or an awkward array with fields: the model's inputs by name, or columns of its one input in
            their order. The lists of an awkward array (the jets of events) may have any length.
        version
            The highest, if left out.
        output
            The one that is wanted, where the model has several.

        Returns
        -------
        array or dict
            (rows, ...) as the model gives it; for an awkward array, an awkward array of the same structure. A dict by
            name, where the model has several outputs and none was chosen.

        Raises
        ------
        BadInput
            The data do not fit the model.
        ModelRefused
            There is no such model, or it says no.
        ModelsUnavailable
            The service does not answer, or stays full.
        """
        signature = self._signature(model, None if version is None else str(version))
        asked = arrays.rows(data, signature.inputs)
        wanted = _wanted(signature, output)
        # Meanwhile a new version may come: half of an array by each would be no result.
        path = _path(model, version or next(reversed(signature.versions), None)) + "/infer"
        found = self._ask(path, asked, signature, wanted)
        shaped = {name: asked.shaped(array) for name, array in found.items()}
        return shaped if len(wanted) > 1 else shaped[wanted[0]]

    def _signature(self, model: str, version: str | None) -> Signature:
        """Return what a model takes, asked again where that may have changed: a version never does."""
        since, found = self._known.get((model, version), (0.0, None))
        now = time.monotonic()
        if found is None or (version is None and now - since > FRESH_SECONDS):
            found = self.signature(model, version)
            self._known[model, version] = now, found
        return found

    def _ask(self, path: str, asked: arrays.Rows, signature: Signature, wanted: Sequence[str]) -> dict[str, Any]:
        import numpy as np  # noqa: PLC0415 - 0.1 s, which `af --help` must not pay

        if not len(asked):
            shapes = {each.name: (each.dtype, [0, *(max(n, 0) for n in each.shape[1:])]) for each in signature.outputs}
            return {name: np.empty(shapes[name][1], shapes[name][0]) for name in wanted}

        def one(batch: Mapping[str, Any]) -> Mapping[str, Any]:
            body, headers = open_inference.request(batch, wanted)
            reply = self._service.ask(Question("POST", path, body, headers))
            return open_inference.answer(reply.content, reply.headers.get(open_inference.LENGTH))

        batches = asked.batches(fixed=signature.inputs[0].shape[0])
        parts = list(_side_by_side(one, batches, self._in_flight))
        return {name: _joined([_of(part, name) for part in parts]) for name in wanted}

    def push(
        self,
        name: str,
        model: Any,
        sample: Any = None,
        about: About | None = None,
        progress: Progress = lambda *_: None,
    ) -> str:
        """Send a model, and return the version that it has got; the highest answers from now on.

        A model of scikit-learn, XGBoost or LightGBM becomes ONNX first, and must answer as before, to 1e-5; a Keras
        model is converted by the service, which takes some seconds, and compared there.

        Parameters
        ----------
        model
            The trained object; or a path: ONNX, ``.keras``, a SavedModel's directory, a frozen graph, XGBoost's
            ``.json`` or ``.ubj``, LightGBM's ``.txt``. No pickles: they are programs.
        sample
            Rows like those that it will be asked of, (rows, columns), on which it is compared. Without them, rows at
            and around the thresholds of its trees.
        progress
            Called with the bytes that have been sent, and with all.

        Raises
        ------
        NotConvertible
            It cannot be converted, or would answer otherwise.
        BadInput
            The service takes no such file.
        ModelRefused
            The service says no: models cannot be pushed here, the version exists, it does not run.
        """
        about = about or About()
        query = "" if about.version is None else f"?{urlencode({'version': about.version})}"
        with package(name, model, sample, about).tar() as tar:
            body = Watched(tar, progress)
            headers = {"Content-Type": "application/x-tar", "Content-Length": str(body.size)}
            reply = self._service.ask(Question("POST", f"/upload{query}", body, headers, False, PUSH_SECONDS))
        self._known.clear()
        return reply.headers["X-Model-Version"]

    def delete(self, model: str, version: str | int | None = None) -> None:
        """Delete a model that was pushed; all its versions, or one.

        Raises
        ------
        ModelRefused
            There is no such model, or it is the facility's.
        """
        there = self.list()
        # TFaaS' protocol says nothing of what is not there.
        if not any(each.name == model and version in (None, each.version, _order(each)[0]) for each in there):
            what = f"model {model!r}" + ("" if version is None else f", version {version}")
            raise ModelRefused(f"there is no {what}: there are {', '.join({each.name: 0 for each in there}) or 'none'}")
        query = "" if version is None else f"?{urlencode({'version': version})}"
        self._service.ask(Question("DELETE", f"/delete/{quote(model, safe='')}{query}"))
        self._known.clear()


def _path(model: str, version: str | int | None) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(str(version), safe='')}"


def _wanted(signature: Signature, output: str | None) -> list[str]:
    names = [tensor.name for tensor in signature.outputs]
    if output is not None and output not in names:
        raise BadInput(f"model {signature.name} has no output {output!r}; it has {', '.join(names)}")
    return names if output is None else [output]


def _side_by_side(one: Callable[[Any], Any], batches: Iterator[Any], most: int) -> Iterator[Any]:
    """Yield the answers in the order of the batches, of which `most` are on their way at any time."""
    first, *rest = islice(batches, 2)
    if not rest:  # of one, no thread is needed
        yield one(first)
        return
    with ThreadPoolExecutor(most, thread_name_prefix="af-models") as threads:
        waiting = deque(threads.submit(one, batch) for batch in (first, *rest))
        try:
            while waiting:
                waiting.extend(threads.submit(one, batch) for batch in islice(batches, most - len(waiting)))
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


def _of(part: Mapping[str, Any], name: str) -> Any:
    try:
        return part[name]
    except KeyError as error:
        raise ModelRefused(f"the model service gives no {name!r}, which its metadata promise") from error


def _joined(parts: Sequence[Any]) -> Any:
    import numpy as np  # noqa: PLC0415 - see above

    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _order(model: ServedModel) -> tuple[int, str]:
    return (int(model.version), "") if model.version.isdigit() else (0, model.version)
