"""What a run says of its results, and what of that is believed. Pure.

Where they go is in the environment that its pod was made with; what it says is written by whatever ran in there. So a
place that is not below the one it was given is left out, and so is a file there: `af results` goes where status says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from af_names import plain
from af_operator import names
from af_operator.api.status import EXACT
from af_operator.model import Body

URL = "AF_RESULTS_URL"
MAX_FILES = 64


class Lenient(BaseModel):
    """The runner in an image may be newer than this operator, and say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class File(Lenient):
    """One of them."""

    url: str = Field(max_length=1000)
    bytes: int = Field(ge=0, le=EXACT)
    adler32: str = Field(pattern="^[0-9a-f]{8}$")


def _first_files(value: Any) -> Any:
    return value[:MAX_FILES] if isinstance(value, list) else value


class Results(Lenient):
    """All of them, and the first by name."""

    url: str = Field(max_length=1000)
    count: int = Field(ge=0, le=10**9)
    bytes: int = Field(ge=0, le=EXACT)
    files: Annotated[list[File], BeforeValidator(_first_files)] = Field(default_factory=list)


def believed(pod: Body, said: Results | None) -> dict[str, Any] | None:
    """Return what is believed of what a run says; `pod` is the spec that it was made with."""
    if said is None or not _is_given(pod, said.url):
        return None
    files = [each for each in said.files if _is_below(said.url, each.url)]
    return said.model_copy(update={"files": files}).model_dump()


def believed_of_record(pod: Body, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was kept of a run without results that it cannot have had."""
    given = _is_given(pod, run.get("results", {}).get("url", ""))
    return {key: value for key, value in run.items() if key != "results" or given}


def left_out(pod: Body, said: Results | None) -> str:
    """Return words for what is not believed; nothing where all is."""
    if said is None:
        return ""
    strange = [url for url in (said.url,) if not _is_given(pod, url)]
    strange += [each.url for each in said.files if not _is_below(said.url, each.url)]
    if not strange:
        return ""
    return f"; what it says of results at {plain.line(strange[0])[:200]} is left out: that is not where its results go"


def _is_given(pod: Body, url: str) -> bool:
    containers = (c for c in pod.get("containers", ()) if c.get("name") == names.RUN_CONTAINER)
    variables = {v["name"]: v.get("value", "") for c in containers for v in c.get("env", ())}
    given = variables.get(URL, "").replace("$$", "$").rstrip("/")
    return bool(given) and url.rstrip("/") == given


def _is_below(base: str, url: str) -> bool:
    folder = f"{base.rstrip('/')}/"
    name = url.removeprefix(folder)
    return url.startswith(folder) and ".." not in name.split("/") and plain.is_line(name)
