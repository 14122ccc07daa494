"""A session's model service, and the catalogue of models that it serves from: the parts of both kinds about that."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from af_operator.api.common import (
    BY_NAME,
    ApiModel,
    Bytes,
    Format,
    ImageReference,
    Name,
    StorageClassName,
    rule,
    rules,
    unchangeable,
)

ModelName = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9_])?$"),
    Format("write a model's name: letters, digits, '-', '_' and '.', first a letter or digit, last no '-' or '.'"),
]
"""As the inference server takes it: a folder of Triton's repository layout, and a part of a URL."""
ModelVersion = Annotated[
    str,
    Field(min_length=1, max_length=9, pattern=r"^[1-9][0-9]*$"),
    Format("write a model's version as text, a whole number from 1 on, such as '3'"),
]
ClaimName = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^(models|cvmfs)([-a-z0-9]*[a-z0-9])?$"),
    # The chart's admission policy lets the operator's pods mount these, read-only, and no other claims of a namespace.
    Format("write the name of a PersistentVolumeClaim that begins with models or cvmfs, such as models-cms"),
]
# No part of a path begins with a dot, so none is '..'.
RelativePath = Annotated[
    str,
    Field(min_length=1, max_length=250, pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.]*(/[A-Za-z0-9_][-A-Za-z0-9_.]*)*$"),
    Format("write a path of letters, digits and . _ - without '/' at its ends, such as btag/topjet"),
]
AbsolutePath = Annotated[
    str,
    Field(min_length=2, max_length=250, pattern=r"^(/[A-Za-z0-9_][-A-Za-z0-9_.]*)+$"),
    Format("write an absolute path of letters, digits and . _ -, such as /models/topjet"),
]


class ModelChoice(ApiModel):
    """A model of the profile's catalogue."""

    name: ModelName = Field(description="The model's name in the catalogue, and to who asks it.")
    version: ModelVersion | None = Field(
        default=None, description="Its version; the highest of the catalogue, when the service starts, if left out."
    )


class Inference(ApiModel):
    """A model service: TFaaS' protocol and the Open Inference Protocol (Triton's), over HTTP and gRPC.

    In the session's pods TFAAS_URL, AF_INFERENCE_URL, AF_INFERENCE_GRPC and AF_INFERENCE_TOKEN say where it is.
    """

    # What is mounted in the replicas that run, and what they were started with.
    model_config = ConfigDict(
        json_schema_extra=rules(
            *(
                unchangeable(field, only="replicas")
                for field in ("models", "upload", "size", "nodePool", "gpusPerReplica")
            ),
            rule(
                "self.upload || (has(self.models) && self.models.size() > 0)",
                "a model service has something to serve: name models of the profile, or write upload: true",
            ),
            rule(
                "self.gpusPerReplica == 0 || has(self.nodePool)",
                "gpusPerReplica needs nodePool: name a node pool of the profile with GPUs",
                fieldPath=".gpusPerReplica",
            ),
        )
    )
    models: list[ModelChoice] = Field(
        default_factory=list,
        max_length=32,
        description="Models of the profile's catalogue, each once. Immutable.",
        json_schema_extra=BY_NAME,
    )
    upload: bool = Field(
        default=False,
        description="Whether the session may upload models of its own, where the profile allows it. They are kept "
        "while the session is suspended, and go with it. Immutable.",
    )
    size: Name | None = Field(
        default=None,
        description="A size of the profile for each replica; the profile's default if left out. Immutable.",
    )
    replicas: int = Field(
        default=1, ge=1, le=100, description="Servers that share the requests; they count as workers do."
    )
    node_pool: Name | None = Field(
        default=None, description="A node pool of the profile; the profile's defaults.nodePool if left out. Immutable."
    )
    gpus_per_replica: int = Field(
        default=0, ge=0, le=16, description="GPUs of the node pool's gpuResource for each replica. Immutable."
    )


class ModelOnClaim(ApiModel):
    """A folder of a volume that each namespace with such sessions has a claim for; mounted read-only."""

    claim_name: ClaimName = Field(description="Name of the PersistentVolumeClaim in the session's namespace.")
    sub_path: RelativePath | None = Field(
        default=None, description="The model's folder in the volume; its root if left out."
    )


class ModelInImage(ApiModel):
    """A folder of an image, which is copied when a replica starts."""

    reference: ImageReference = Field(description="Image with the model, and with the program `cp`.")
    path: AbsolutePath = Field(description="The model's folder in the image.")


class ModelOnCvmfs(ApiModel):
    """A folder of CVMFS, which a claim in each namespace with such sessions brings; mounted read-only at /cvmfs."""

    claim_name: ClaimName = Field(description="Name of the PersistentVolumeClaim in the session's namespace.")
    path: Annotated[
        str,
        Field(min_length=9, max_length=250, pattern=r"^/cvmfs(/[A-Za-z0-9_][-A-Za-z0-9_.]*)+$"),
        Format("write a path below /cvmfs, such as /cvmfs/cms.example.org/models/topjet"),
    ] = Field(description="The model's folder.")


class ModelSource(ApiModel):
    """Where a model's folder is, in Triton's layout: ``<folder>/<version>/model.onnx``."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.volumeClaim), has(self.image), has(self.cvmfs)].filter(given, given).size() == 1",
                "give exactly one of volumeClaim, image and cvmfs",
            ),
        )
    )
    volume_claim: ModelOnClaim | None = None
    image: ModelInImage | None = None
    cvmfs: ModelOnCvmfs | None = None


class CatalogueModel(ApiModel):
    """One version of a model that sessions may name."""

    name: ModelName = Field(description="What sessions call it.")
    version: ModelVersion = Field(description="A whole number; a session that names none gets the highest.")
    description: str = Field(default="", max_length=1000, description="What it is, for people.")
    source: ModelSource | None = None


class ModelStore(ApiModel):
    """The volume of models that a session uploads: one for each such session, gone with it."""

    storage_class_name: StorageClassName | None = Field(
        default=None, description="StorageClass of the volume; the cluster's default if left out."
    )
    size: Bytes = Field(default="1Gi", description="Size of the volume, at least.")
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        default="ReadWriteOnce",
        description="ReadWriteMany where the storage can: else all replicas of a session share one node.",
    )


class Triton(ApiModel):
    """A facility's own engine."""

    grpc: Annotated[
        str,
        Field(max_length=260, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?:[0-9]{1,5}$"),
        Format("write host:port, such as triton.example.org:8001; no scheme, no path"),
    ] = Field(min_length=1, description="host:port of its gRPC.")


class ProfileInference(ApiModel):
    """The model services of sessions, and the catalogue of models."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(self.engine == 'Url') == has(self.url)",
                "url is for engine: Url, and that needs it: say where the facility's Triton is, or leave url out",
                fieldPath=".url",
            ),
            rule(
                "self.engine == 'Builtin' || !self.upload",
                "engine: Url takes no uploads: its models are put into the facility's Triton",
                fieldPath=".upload",
            ),
            rule(
                "!has(self.models) || self.models.all(m, has(m.source) == (self.engine == 'Builtin'))",
                "each model needs a source with engine: Builtin, and has none with Url, whose models are in its Triton",
                fieldPath=".models",
            ),
        )
    )
    engine: Literal["Builtin", "Url"] = Field(
        default="Builtin",
        description="Builtin: replicas run the models themselves, on ONNX Runtime. Url: they are a front with a token "
        "and all protocols, and the facility's Triton at `url` runs the models.",
    )
    image: ImageReference = Field(
        description="Image with the inference server; one that also converts other formats, where sessions upload such."
    )
    gpu_image: ImageReference | None = Field(
        default=None, description="Image for replicas with GPUs; there are none if left out."
    )
    url: Triton | None = None
    models: list[CatalogueModel] = Field(
        default_factory=list,
        max_length=256,
        description="The catalogue: sessions name from it, each version apart.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "version"]},
    )
    upload: bool = Field(default=False, description="Whether sessions may upload models of their own.")
    store: ModelStore = Field(default_factory=ModelStore)
