"""The operator's own configuration, from AF_OPERATOR_* variables. A wrong value fails at start, never later."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from af_operator.views import ClusterNetwork

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
    hub_api_url, hub_base_url
        JupyterHub's API, as pods and the operator reach it (``http://hub:8081/hub/api``), and the path under which
        people see it (``/``). An empty URL: no JupyterHub.
    hub_account
        Who JupyterHub is for the API server (``system:serviceaccount:af-system:hub``); it reads notebooks' tokens.
    hub_token_file
        Holds the operator's token for that API.
    hub_poll_seconds
        Time between two looks at which servers JupyterHub shows.
    orphan_seconds
        How long objects may be without their session until they are deleted.
    network
        The facility's network, as JSON; without it sessions get no NetworkPolicies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    namespace: str = "af-system"
    identity: str = Field(default_factory=socket.gethostname, min_length=1)
    lease_name: str = "af-operator"
    lease_seconds: float = Field(default=15, ge=5, le=300)
    watch_namespaces: tuple[str, ...] = ()
    workers: int = Field(default=10, ge=1, le=200)
    port: int = Field(default=8080, ge=0, le=65535)
    hub_api_url: str = Field(default="", pattern=r"^(https?://[^/\s]+(/\S*)?)?$")
    hub_base_url: str = Field(default="/", pattern=r"^/(\S*/)?$")
    hub_account: str = ""
    hub_token_file: Path | None = Field(default=None, validate_default=True)
    hub_poll_seconds: float = Field(default=15, ge=0.1, le=3600)
    orphan_seconds: float = Field(default=600, ge=1, le=86_400)
    network: ClusterNetwork | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @field_validator("watch_namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part for part in re.split(r"[,\s]+", value) if part)
        return value

    @field_validator("network", mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        if isinstance(value, str):
            return json.loads(value) if value else None
        return value

    @field_validator("hub_token_file")
    @classmethod
    def _needed(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if info.data.get("hub_api_url") and value is None:
            raise ValueError("needed with AF_OPERATOR_HUB_API_URL: JupyterHub answers nobody without a token")
        return value


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings.

    Raises
    ------
    SystemExit
        With one line for each variable that is unknown or wrong.
    """
    values = {k.removeprefix(PREFIX).lower(): v for k, v in environ.items() if k.startswith(PREFIX)}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise SystemExit("wrong settings:\n  " + "\n  ".join(lines)) from None
