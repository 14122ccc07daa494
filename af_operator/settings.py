"""The operator's own configuration, from AF_OPERATOR_* variables. A wrong value fails at start, never later."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

PREFIX = "AF_OPERATOR_"


class Settings(BaseModel):
    """Everything that can be set.

    Attributes
    ----------
    namespace
        Where the Lease lies: the operator's own namespace.
    watch_namespaces
        Namespaces to serve; empty means all.
    workers
        Passes that run at the same time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    namespace: str = "af-system"
    identity: str = Field(default_factory=socket.gethostname, min_length=1)
    lease_name: str = "af-operator"
    lease_seconds: float = Field(default=15, ge=5, le=300)
    watch_namespaces: tuple[str, ...] = ()
    workers: int = Field(default=10, ge=1, le=200)
    port: int = Field(default=8080, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @field_validator("watch_namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part for part in re.split(r"[,\s]+", value) if part)
        return value


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings.

    Raises
    ------
    SystemExit
        With one line for each variable that is unknown or wrong.
    """
    given = {k.removeprefix(PREFIX).lower(): v for k, v in environ.items() if k.startswith(PREFIX)}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        lines = [f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise SystemExit("wrong settings:\n  " + "\n  ".join(lines)) from None
