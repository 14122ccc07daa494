"""A model as TFaaS asks it: one input, and of its outputs one."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from typing import NamedTuple

from af_inference.errors import Invalid, NotFound
from af_inference.outputs import chosen
from af_inference.registry import Registry
from af_inference.served import Served
from af_inference.tensors import Array, Tensor
from af_inference.tfaas import params

NAMES = 20


@dataclass(frozen=True, slots=True)
class Single:
    """What this protocol sees of a model, by its metadata and its ``params.json``.

    Attributes
    ----------
    input, output
        What is asked, and the name of what is answered.
    channels
        Of the pictures that it takes; 0 where nothing says so.
    labels
        Of its classes, where it is asked as one of TFaaS' frozen graphs, which are answered with labels.
    """

    input: Tensor
    output: str
    channels: int
    labels: list[str]

    @classmethod
    def of(cls, served: Served) -> Single:
        """Return it; reads files.

        Raises
        ------
        Invalid
            The model has more inputs than this protocol can send.
        """
        inputs, outputs = served.model.inputs, served.model.outputs
        if len(inputs) != 1:
            names = ", ".join(tensor.name for tensor in inputs)
            raise Invalid(
                f"model {served.model.name} has the inputs {names}, and this protocol knows one: ask it by /v2"
            )
        said = params.read(served.model.name, served.artifact)
        output = chosen([(each.name, each.datatype.startswith("FP")) for each in outputs], said["output_name"])
        labels = params.labels(served.artifact) if said["output_node"] else []
        return cls(inputs[0], output, said["img_channels"] or max(inputs[0].shape[-1:], default=0), labels)


class Loaded(NamedTuple):
    """A model that is loaded."""

    served: Served
    single: Single

    async def answer(self, array: Array) -> Array:
        """Return the output for an array of the input."""
        output = self.single.output
        return (await self.served.ask({self.single.input.name: array}, (output,)))[output]


class Models:
    """Models by their names; what was read once of each is known as long as it is loaded, and keeps none of them so."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[str, tuple[weakref.ref[Served], Single]] = {}

    async def get(self, name: str) -> Loaded:
        """Return a model, loaded first if need be.

        Raises
        ------
        NotFound
            There is none; with the names of those that there are.
        """
        served = self._registry.loaded(name) or await self._load(name)
        known = self._known.get(name)
        if known is None or known[0]() is not served:
            known = self._known[name] = (weakref.ref(served), await asyncio.to_thread(Single.of, served))
        return Loaded(served, known[1])

    async def _load(self, name: str) -> Served:
        self._known.pop(name, None)
        try:
            return await self._registry.get(name)
        except NotFound:
            names = await asyncio.to_thread(self._registry.source.names)
            if name in names:
                raise
            there_are = ", ".join(names[:NAMES]) or "none"
            said = f"there is no model {name[:63]!r}" if name else "no model is named"
            raise NotFound(f"{said}; there are: {there_are}") from None
