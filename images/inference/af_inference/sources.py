"""Where a registry gets its models from, and the source that most servers have: files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from af_inference.repository import Repository
from af_inference.runtime import Runtime
from af_inference.served import Served
from af_inference.settings import Limits


class Source(Protocol):
    """All models that there are, loaded or not. Whatever it is asked may take a while: not for an event loop."""

    @property
    def provider(self) -> str:
        """On what the models run."""

    @property
    def available(self) -> bool:
        """Whether models can be asked now."""

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, highest first; none if there is no such model."""

    def load(self, name: str, version: str | None) -> Served:
        """Load a version, by default the highest, and try it.

        Raises
        ------
        NotFound
            There is none.
        Unprocessable
            It cannot be served.
        """

    def generation(self) -> int:
        """Return a number that differs once there may be other models."""


@dataclass(frozen=True, slots=True)
class Files:
    """Models of a repository, run by ONNX Runtime."""

    repository: Repository
    runtime: Runtime
    limits: Limits

    @property
    def provider(self) -> str:
        """ONNX Runtime's execution provider."""
        return self.runtime.provider

    @property
    def available(self) -> bool:
        """Files are."""
        return True

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return self.repository.names()

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, highest first."""
        return self.repository.versions(name)

    def load(self, name: str, version: str | None) -> Served:
        """Load a version; see `Source`."""
        artifact = self.repository.find(name, version)
        return Served.tried(self.runtime.load(name, artifact.version, artifact.file), self.limits, artifact)

    def generation(self) -> int:
        """Return the store's."""
        return self.repository.generation()
