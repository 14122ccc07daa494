"""A model that is loaded, was tried, and can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Any

from af_inference import model_config, trial
from af_inference.batching import Batcher
from af_inference.errors import Invalid, TooLarge
from af_inference.repository import Artifact
from af_inference.runtime import Model
from af_inference.settings import Limits
from af_inference.statistics import Statistics
from af_inference.tensors import Array, Arrays


@dataclass
class Served:
    """One version of a model that answers.

    Attributes
    ----------
    config
        Triton's ``ModelConfig``.
    artifact
        Where it lies; None for a model of a backend.
    """

    model: Model
    limits: Limits
    batched: bool
    config: Any
    artifact: Artifact | None = None
    statistics: Statistics = field(default_factory=Statistics)

    @classmethod
    def tried(cls, model: Model, limits: Limits, artifact: Artifact | None = None) -> Served:
        """Return a model once it has answered, knowing whether its rows can be put together.

        Raises
        ------
        Unprocessable
            It does not answer.
        """
        given = model_config.read(artifact) if artifact else model_config.none()
        size, most = trial.answer_once(model), given.max_batch_size
        batched = most != 1 and trial.rows_are_independent(model, size)
        if most > 0:
            limits = replace(limits, batch=min(limits.batch, most))
        return cls(model, limits, batched, model_config.complete(given, model, batched), artifact)

    def __post_init__(self) -> None:
        self.batcher = Batcher(self.model, self.limits, self.batched, self.statistics)
        self._inputs = {tensor.name: tensor for tensor in self.model.inputs}
        self._outputs = tuple(tensor.name for tensor in self.model.outputs)

    async def ask(self, feeds: Arrays, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """Return the outputs named, by default all, for arrays of all inputs.

        Raises
        ------
        Problem
            The arrays do not fit, the queue is full, or what the model says.
        """
        return await self.batcher.ask(self.fit(feeds), self.wanted(outputs))

    def ask_in_thread(self, feeds: Arrays, outputs: Sequence[str] = (), seconds: float = inf) -> dict[str, Array]:
        """Do the same in a thread that may wait, for so many seconds at most."""
        return self.batcher.ask_in_thread(self.fit(feeds), self.wanted(outputs), seconds)

    def fit(self, feeds: Arrays) -> dict[str, Array]:
        """Return the arrays in the model's order, if they are what it takes.

        Raises
        ------
        Invalid
            An input is missing, unknown, or has another type or shape.
        TooLarge
            There are too many rows, or columns.
        """
        if feeds.keys() != self._inputs.keys():
            raise Invalid(f"model {self.model.name} takes the inputs {', '.join(self._inputs)}")
        for name, tensor in self._inputs.items():
            tensor.check(feeds[name])
            self._check_size(name, feeds[name].shape)
        if self.batched and len({array.shape[0] for array in feeds.values()}) > 1:
            raise Invalid("all inputs must have the same number of rows")
        return {name: feeds[name] for name in self._inputs}

    def wanted(self, outputs: Sequence[str]) -> Sequence[str]:
        """Return the names of the outputs to answer with.

        Raises
        ------
        Invalid
            One of them is no output.
        """
        if not outputs:
            return self._outputs
        if unknown := [name for name in outputs if name not in self._outputs]:
            raise Invalid(f"model {self.model.name} has no output {unknown[0]}, but {', '.join(self._outputs)}")
        return outputs

    @cached_property
    def datatypes(self) -> dict[str, str]:
        """The outputs' datatypes by their names."""
        return {tensor.name: tensor.datatype for tensor in self.model.outputs}

    def _check_size(self, name: str, shape: tuple[int, ...]) -> None:
        if shape and (shape[0] > self.limits.rows or (len(shape) > 1 and max(shape[1:]) > self.limits.columns)):
            raise TooLarge(
                f"input {name} may have {self.limits.rows} rows and {self.limits.columns} columns: send it in parts"
            )
