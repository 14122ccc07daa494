"""``AnalysisProfile``: the facility's catalogue. Sessions choose from it by name and can say nothing else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from af_operator.api.common import (
    BY_NAME,
    QUALIFIED_NAME,
    ApiModel,
    Bytes,
    Cpu,
    Format,
    ImageReference,
    Name,
    Rule,
    Seconds,
    StorageClassName,
    rule,
    rules,
)
from af_operator.api.inference import ProfileInference
from af_operator.api.network import LabelValue, ProfileNetwork
from af_operator.api.xcache import ProfileXCache

SecretName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
    Format("write the name of a Secret; no path, no other namespace"),
]
PriorityClassName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
    Format("write the name of a PriorityClass (`kubectl get priorityclasses`)"),
]


class Image(ApiModel):
    """An image that sessions may name."""

    name: Name = Field(description="What sessions call it.")
    image: ImageReference = Field(description="Reference, best with a digest: what a session gets never changes then.")
    provides: list[Literal["Spark"]] = Field(
        default_factory=list,
        max_length=8,
        description="What it has beside Python and Dask. Spark: Java and Spark in Python's environment. A session with "
        "spark needs such an image, and gets the first one if it names none.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Size(ApiModel):
    """A shape of a container: what it asks for and what it may use."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.cpuLimit) || !isQuantity(self.cpu) || !isQuantity(self.cpuLimit) || "
                "quantity(self.cpuLimit).compareTo(quantity(self.cpu)) >= 0",
                "cpuLimit is below cpu: write at least as much, or leave cpuLimit out",
                fieldPath=".cpuLimit",
            ),
            rule(
                "!has(self.sharedMemory) || !isQuantity(self.memory) || !isQuantity(self.sharedMemory) || "
                "quantity(self.sharedMemory).compareTo(quantity(self.memory)) <= 0",
                "sharedMemory is more than memory, of which it is a part: write at most as much",
                fieldPath=".sharedMemory",
            ),
        )
    )
    name: Name = Field(description="What sessions call it.")
    cpu: Cpu = Field(
        description="CPU request; also, rounded up, the threads of a Dask worker and the cores of a Spark worker."
    )
    cpu_limit: Cpu | None = Field(
        default=None, description="CPU limit, not below cpu. Twice cpu, and at least one core more, if left out."
    )
    memory: Bytes = Field(description="Memory request and limit.")
    ephemeral_storage: Bytes | None = Field(
        default=None,
        description="Disk of the node for scratch, results on their way, spilled data, logs and whatever is written "
        "into the container; a pod that has more is evicted. Four times the memory, at least 10Gi, if left out.",
    )
    shared_memory: Bytes | None = Field(
        default=None,
        description="Size of /dev/shm, for libraries that share arrays between processes; it counts as memory of the "
        "container. Half of the memory if left out.",
    )


class Toleration(ApiModel):
    """A taint that pods of a node pool tolerate."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.operator == 'Equal' || !has(self.value)",
                "operator Exists takes no value: remove value, or write operator: Equal",
                fieldPath=".value",
            ),
        )
    )
    key: Annotated[
        str,
        Field(max_length=317, pattern=QUALIFIED_NAME),
        Format("write the key of a taint, such as nvidia.com/gpu"),
    ] = Field(min_length=1, description="The taint's key.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="How the taint's value is compared.")
    value: LabelValue | None = Field(default=None, description="The taint's value, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect; every effect if left out."
    )


class NodePool(ApiModel):
    """Nodes that pods may be placed on."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!self.cpuWorkers || has(self.gpuResource)",
                "cpuWorkers is for node pools with GPUs: set gpuResource, or remove cpuWorkers",
                fieldPath=".cpuWorkers",
            ),
        )
    )
    name: Name = Field(description="What sessions call it.")
    node_selector: Annotated[
        dict[str, LabelValue],
        Field(max_length=16),
        Rule(
            f"self.all(key, size(key) <= 317 && key.matches(r'{QUALIFIED_NAME}'))",
            "a key of nodeSelector is the key of a node's label, such as example.org/pool",
        ),
    ] = Field(default_factory=dict, description="Labels of the pool's nodes; every node if left out.")
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=16, description="Taints of the pool's nodes that its pods tolerate."
    )
    gpu_resource: (
        Annotated[
            str,
            Field(min_length=1, max_length=100, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9][-A-Za-z0-9_.]*$"),
            Format("write the name of an extended resource, such as nvidia.com/gpu"),
        ]
        | None
    ) = Field(default=None, description="Extended resource of one GPU, such as nvidia.com/gpu; no GPUs if left out.")
    cpu_workers: bool = Field(
        default=False,
        description="With gpuResource: workers that ask for no GPU may take these nodes, too. If false they keep off "
        "every node that has all labels of nodeSelector, whatever pool they are of. Without nodeSelector nobody can "
        "tell which nodes these are, and only this pool is closed to them.",
    )
    max_workers: int | None = Field(
        default=None,
        ge=0,
        le=10_000,
        description="Workers of one session on these nodes, over all its pools; no limit if left out.",
    )


class Results(ApiModel):
    """Where runs put what they leave in $AF_RESULTS."""

    url: Annotated[
        str,
        # No '@': every user of a session reads this in its status, so there is no place for credentials.
        Field(max_length=500, pattern=r"^[a-z][a-z0-9+]*://[^@\s\x00]+$"),
        Format("write a URL without credentials, such as root://storage.example.org:1094//results or s3://bucket/af"),
    ] = Field(
        min_length=1,
        description="Base URL for fsspec (root://, s3://, file://); a session gets <url>/<namespace>/<name>-<uid>.",
    )


class Home(ApiModel):
    """The volume of a user's files: one per user and namespace, made once, and never deleted by the operator."""

    storage_class_name: StorageClassName | None = Field(
        default=None, description="StorageClass of the volume; the cluster's default if left out."
    )
    size: Bytes = Field(default="10Gi", description="Size of the volume, at least.")
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        default="ReadWriteOnce",
        description="ReadWriteMany where the storage can: else the sessions of one user share one node.",
    )


class Storage(ApiModel):
    """Where users' files live."""

    home: Home | None = Field(
        default=None, description="Home of notebooks. If left out it is empty at each start, and lost with the pod."
    )


class Limits(ApiModel):
    """What one session may have in all."""

    workers: int = Field(default=100, ge=0, le=10_000, description="Workers over all pools of the session.")
    gpus: int = Field(default=0, ge=0, le=10_000, description="GPUs over all pools of the session.")
    lifetime_seconds: Seconds | None = Field(
        default=None,
        description="Longest lifetimeSeconds, and what a session gets that does not say; none if left out.",
    )


class Scaling(ApiModel):
    """How patient pools of workers are when they get fewer."""

    quiet_seconds: Seconds = Field(
        default=30, description="An elastic pool gets smaller when its tasks needed less for this long."
    )
    drain_seconds: Seconds = Field(
        default=120,
        description="A worker that goes has this long to finish what it runs; then its tasks run anew elsewhere.",
    )
    silence_seconds: Seconds = Field(
        default=600,
        description="Workers that are to go keep their results until the scheduler has copied them away. When it does "
        "not answer for this long, they go without.",
    )


class ProfileDask(ApiModel):
    """How Dask clusters are made."""

    engine: Literal["Native", "DaskKubernetes"] = Field(
        default="Native",
        description="Native: this operator makes scheduler and workers itself. DaskKubernetes: dask-kubernetes' "
        "operator does, where the facility runs it (chart: daskOperator.enabled). A session stays under the engine it "
        "was begun under.",
    )


class Defaults(ApiModel):
    """What a session gets that does not say."""

    image: Name | None = Field(default=None, description="Name of an image; the first of images if left out.")
    size: Name | None = Field(default=None, description="Name of a size; the first of sizes if left out.")
    node_pool: Name | None = Field(
        default=None,
        description="Name of a node pool: where runs, notebooks, schedulers, caches and servers are, if the session "
        "does not say. Any node if left out, those without GPUs first.",
    )
    ttl_seconds_after_finished: int = Field(
        default=86_400, ge=0, le=31_536_000, description="A finished session is deleted after this time."
    )


class ProfileSpec(ApiModel):
    """The catalogue."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.defaults.image) || self.images.exists(i, i.name == self.defaults.image)",
                "defaults.image must be the name of one of images",
                fieldPath=".defaults.image",
            ),
            rule(
                "!has(self.defaults.size) || self.sizes.exists(s, s.name == self.defaults.size)",
                "defaults.size must be the name of one of sizes",
                fieldPath=".defaults.size",
            ),
            rule(
                "!has(self.defaults.nodePool) || "
                "(has(self.nodePools) && self.nodePools.exists(n, n.name == self.defaults.nodePool))",
                "defaults.nodePool must be the name of one of nodePools",
                fieldPath=".defaults.nodePool",
            ),
        )
    )
    images: list[Image] = Field(
        min_length=1, max_length=64, description="Images that sessions may name.", json_schema_extra=BY_NAME
    )
    sizes: list[Size] = Field(
        min_length=1, max_length=64, description="Sizes that sessions may name.", json_schema_extra=BY_NAME
    )
    node_pools: list[NodePool] = Field(
        default_factory=list,
        max_length=64,
        description="Node pools that sessions may name.",
        json_schema_extra=BY_NAME,
    )
    image_pull_secrets: list[SecretName] = Field(
        default_factory=list,
        max_length=8,
        description="Names of Secrets in each session's namespace with which the kubelet pulls images of sessions from "
        "private registries. Whoever runs the namespace puts them there.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    priority_class_name: PriorityClassName | None = Field(
        default=None,
        description="PriorityClass of all pods of sessions, which says who is preempted; the cluster's default if left "
        "out.",
    )
    dask: ProfileDask = Field(default_factory=ProfileDask)
    xcache: ProfileXCache | None = Field(default=None, description="Sessions have no cache if left out.")
    inference: ProfileInference | None = Field(default=None, description="Sessions have no models if left out.")
    storage: Storage = Field(default_factory=Storage)
    results: Results | None = Field(default=None, description="Nothing is kept of a run's files if left out.")
    limits: Limits = Field(default_factory=Limits)
    scaling: Scaling = Field(default_factory=Scaling)
    network: ProfileNetwork = Field(default_factory=ProfileNetwork)
    defaults: Defaults = Field(default_factory=Defaults)
