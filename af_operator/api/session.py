"""``AnalysisSession``: a physicist's unit of work. Only choices from the profile can be said here.

No pod spec, service account, host path, image reference, label or annotation is expressible: the API
server refuses what this schema does not name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from af_names import FILE_NAME, MAX_FILE_NAME, MAX_SOURCE_BYTES
from af_operator.api.common import (
    BY_NAME,
    ApiModel,
    Format,
    Name,
    Rule,
    Seconds,
    forbidden,
    rule,
    rules,
)
from af_operator.api.dask import Dask
from af_operator.api.inference import Inference
from af_operator.api.spark import Spark
from af_operator.api.xcache import XCache

FileName = Annotated[str, Field(min_length=1, max_length=MAX_FILE_NAME, pattern=FILE_NAME)]
ConfigMapName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
    Format("write the name of a ConfigMap in the session's namespace; no path, no other namespace"),
]

# A user is what the API server or JupyterHub calls them, and identity providers call them anything: an e-mail address,
# https://iam.example.org#alice, ../admin. So only what would break a line or hide in one is refused.
USER = r"^[^\s\x00-\x1f\x7f<>]([^\x00-\x1f\x7f<>]*[^\s\x00-\x1f\x7f<>])?$"

# Part of the path at which JupyterHub shows the server: what every proxy on the way leaves as it is.
SERVER_NAME = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

# The container runtime refuses a NUL byte long after the API server has accepted the object.
NO_NUL = Rule(r"!self.contains('\u0000')", "remove the NUL characters: a process cannot be given them")


def immutable(field: str, *, optional: bool = False) -> dict[str, str]:
    """Return the rule that a field stays as it was created.

    On the spec, not on the field: a transition rule of a field is not evaluated when the field is added
    or removed, so an optional field could be changed in two steps.
    """
    if not optional:
        return forbidden(
            f"self.{field} == oldSelf.{field}",
            field,
            f"{field} cannot be changed: create a new session with the {field} you want",
        )
    return forbidden(
        f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        field,
        f"{field} cannot be changed, added or removed: create a new session with the {field} you want",
    )


class Source(ApiModel):
    """The user's files, laid into the run's working directory: either `files` or `configMap`."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.files) != has(self.configMap)", "give either files or configMap, not both and not neither"),
        )
    )
    files: (
        Annotated[
            dict[FileName, Annotated[str, Field(max_length=MAX_SOURCE_BYTES)]],
            Field(min_length=1, max_length=64),
            Rule(
                # bytes(), because a string's size counts characters and a ConfigMap's limit counts bytes.
                f"self.map(name, size(bytes(self[name]))).sum() <= {MAX_SOURCE_BYTES}",
                "the files are larger than 256 KiB in all: put them into the image, or into a ConfigMap "
                "and name it in configMap",
            ),
            Rule(
                f"self.all(name, size(name) <= {MAX_FILE_NAME} && name.matches(r'{FILE_NAME}'))",
                "a file name is letters, digits, '_', '-' and '.', not first '-' or '.', at most 100 characters, "
                "and no path",
            ),
        ]
        | None
    ) = Field(default=None, description="File name to content, at most 256 KiB in all; `af run` fills this in.")
    config_map: ConfigMapName | None = Field(
        default=None, description="Name of a ConfigMap in the session's namespace whose keys are the files."
    )


class Run(ApiModel):
    """The headless program: a Job that starts once every pool has its minimum of workers."""

    command: Annotated[
        list[Annotated[str, Field(max_length=4096), NO_NUL]],
        Rule("self.size() == 0 || self[0] != ''", "the command's first item is the program: it cannot be empty"),
    ] = Field(
        min_length=1,
        max_length=64,
        description="Program and arguments, one item each. Not run through a shell: for pipes or variables write "
        "[sh, -c, '...'].",
    )
    source: Source | None = None
    size: Name | None = Field(default=None, description="A size of the profile; the profile's default if left out.")
    node_pool: Name | None = Field(
        default=None, description="A node pool of the profile; the profile's defaults.nodePool if left out."
    )
    backoff_limit: int = Field(default=0, ge=0, le=10, description="How often a failed run is tried again.")
    active_deadline_seconds: Seconds | None = Field(
        default=None,
        description="Longest time from the release of the run to its end, retries included. No limit if left out.",
    )


class Notebook(ApiModel):
    """A JupyterLab server of one's own, with the user's home and the session's Dask and cache at hand."""

    size: Name | None = Field(default=None, description="A size of the profile; the profile's default if left out.")
    node_pool: Name | None = Field(
        default=None, description="A node pool of the profile; the profile's defaults.nodePool if left out."
    )
    server_name: (
        Annotated[
            str,
            Field(max_length=100, pattern=SERVER_NAME),
            Format("write letters, digits, '-', '_' and '.', beginning and ending with a letter or digit; or nothing"),
        ]
        | None
    ) = Field(
        default=None,
        description="Name of the JupyterHub server that shows this session, and so a part of its URL; the session's "
        "own name if left out. Empty is the user's default server.",
    )


class EnvVar(ApiModel):
    """One environment variable of the user's processes."""

    name: Annotated[
        str,
        Field(max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
        Format("write the name of an environment variable: letters, digits and '_', not first a digit"),
        # What these say is how the session's parts find each other; LD_PRELOAD would reach into the runner.
        Rule(
            "!self.matches(r'^(AF_|DASK_|_?SPARK_|PYSPARK_|TFAAS_|JUPYTER|XRD_|XROOT_|KUBERNETES_|LD_|HOME$|PATH$)')",
            "HOME, PATH and names that begin with AF_, DASK_, SPARK_, PYSPARK_, TFAAS_, JUPYTER, XRD_, XROOT_, "
            "KUBERNETES_ or LD_ are set by the session itself: choose another name",
        ),
    ] = Field(min_length=1, description="Name of the variable.")
    value: Annotated[str, NO_NUL] = Field(max_length=4096, description="Literal value; `$(VAR)` is not expanded.")


class SessionSpec(ApiModel):
    """What the user wants: choices from the profile, by name."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            forbidden(
                "self.mode == 'Headless' || !has(self.run)", "run", "run needs mode: Headless; Interactive has no run"
            ),
            rule(
                "self.mode != 'Headless' || has(self.run)",
                "mode: Headless needs run, with at least a command",
                fieldPath=".run",
                reason="FieldValueRequired",
            ),
            immutable("profile"),
            immutable("user"),
            immutable("mode"),
            immutable("image", optional=True),
            immutable("run", optional=True),
            forbidden(
                "self.mode == 'Interactive' || !has(self.notebook)",
                "notebook",
                "notebook needs mode: Interactive; a Headless session has a run",
            ),
            immutable("notebook", optional=True),
            immutable("xcache", optional=True),
            immutable("env", optional=True),
            forbidden(
                "!has(self.xcache) || !has(self.xcache.decision) || has(self.inference)",
                "xcache.decision",
                "decision needs inference: it is a model of the session's own service that decides",
            ),
            forbidden(
                "!has(self.xcache) || !has(self.xcache.decision) || !has(self.inference) || self.inference.upload || "
                "(has(self.inference.models) && self.inference.models.exists(m, m.name == self.xcache.decision.model))",
                "xcache.decision.model",
                "no model of this name can be served: name it in inference.models too, or write inference.upload: true",
            ),
            # Its pools may be edited. Whether there is a scheduler is in the environment of running pods.
            forbidden(
                "has(self.dask) == has(oldSelf.dask)",
                "dask",
                "dask cannot be added or removed, only its pools changed: create a new session",
            ),
            forbidden(
                "has(self.spark) == has(oldSelf.spark)",
                "spark",
                "spark cannot be added or removed, only its pools changed: create a new session",
            ),
            forbidden(
                "has(self.inference) == has(oldSelf.inference)",
                "inference",
                "inference cannot be added or removed, only its replicas changed: create a new session",
            ),
        )
    )
    profile: Name = Field(default="default", description="Name of the AnalysisProfile to choose from. Immutable.")
    user: Annotated[
        str,
        Field(max_length=253, pattern=USER),
        Format("write the user as the API server knows them (kubectl auth whoami), such as alice"),
        # Browsers and proxies resolve these in a path: the user's own server could never be reached.
        Rule("!(self in ['.', '..'])", "a user cannot be called '.' or '..': it is part of the path of their notebook"),
    ] = Field(
        min_length=1,
        description="Who the session belongs to, as the API server knows them (`kubectl auth whoami`). Immutable.",
    )
    mode: Literal["Interactive", "Headless"] = Field(
        description="Headless: runs `run` and finishes. Interactive: stays until it is deleted, with `notebook` or as "
        "a bare Dask cluster. Immutable.",
    )
    suspend: bool = Field(
        default=False, description="true: the compute goes; spec, cache of placement Session and results stay."
    )
    image: Name | None = Field(
        default=None,
        description="An image of the profile, by its name there; one for run, notebook, scheduler and workers. "
        "The profile's default if left out. Immutable.",
    )
    run: Run | None = Field(default=None, description="Only and always with mode Headless. Immutable.")
    notebook: Notebook | None = Field(default=None, description="Only with mode Interactive. Immutable.")
    dask: Dask | None = None
    spark: Spark | None = None
    inference: Inference | None = None
    xcache: XCache | None = Field(default=None, description="Immutable.")
    env: list[EnvVar] | None = Field(
        default=None,
        max_length=64,
        description="Environment of the user's processes: run, notebook, Dask's scheduler, and workers. Immutable.",
        json_schema_extra=BY_NAME,
    )
    lifetime_seconds: Seconds | None = Field(
        default=None,
        description="The session's compute ends this long after its creation, whatever it does. "
        "The profile's limits.lifetimeSeconds if left out.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=31_536_000,
        description="A finished session is deleted after this time. The profile's default if left out.",
    )
