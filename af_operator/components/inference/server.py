"""The inference server, as objects: its configuration, and the pod of a replica. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from af_operator import names
from af_operator.api.inference import CatalogueModel, ModelInImage, ModelOnClaim, ModelStore
from af_operator.components._shared import choices, placement, pod_spec
from af_operator.components.inference import spec as specs
from af_operator.components.inference.spec import NAME
from af_operator.model import Body, Profile, Session

CONFIG = "config.json"
CONFIG_DIR, TOKEN_DIR = "/etc/inference", "/etc/inference-token"
CATALOGUE, STORE, CVMFS = "/models/catalogue", "/models/store", "/cvmfs"
COPIED = "/copied"
PORTS = {"http": names.INFERENCE_PORT, "grpc": names.INFERENCE_GRPC_PORT}


def config(session: Session, profile: Profile) -> str:
    """Return what the server reads."""
    facility = specs.facility(profile)
    settings = {
        "http": names.INFERENCE_PORT,
        "grpc": names.INFERENCE_GRPC_PORT,
        "token": f"{TOKEN_DIR}/{names.INFERENCE_TOKEN}",
        "models": [dict(_model(model)) for model in specs.models(session, profile)],
        "store": STORE if specs.spec(session).upload else None,
        "upload": specs.spec(session).upload,
        "device": "cuda" if specs.gpus(session, profile) else "cpu",
        "backend": {"grpc": facility.url.grpc} if facility.url else None,
    }
    return json.dumps(settings, indent=1) + "\n"


def service_ports() -> list[Body]:
    """Return the ports of the Service."""
    return [{"name": name, "protocol": "TCP", "port": port, "targetPort": name} for name, port in PORTS.items()]


def pod(session: Session, profile: Profile) -> Body:
    """Return the pod of a replica."""
    asked, store, models = specs.spec(session), specs.store(session, profile), specs.models(session, profile)
    volumes, mounts = zip(*_volumes(session, profile, models), strict=True)
    place = placement.of(profile, asked.node_pool, asked.gpus_per_replica)
    place = replace(place, affinity={**place.affinity, **_beside_the_store(session, store)})
    found = pod_spec.pod([_container(session, profile, mounts)], _once(volumes), place)
    copies = [_copy(m.name, m.source.image) for m in models if m.source and m.source.image]
    if store:
        # A new volume belongs to root. Only its top is looked at.
        found["securityContext"] |= {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"}
    return {**found, **({"initContainers": copies} if copies else {})}


def _model(model: CatalogueModel) -> Iterator[tuple[str, Any]]:
    yield from (("name", model.name), ("version", model.version))
    if model.source:
        yield "path", model.source.cvmfs.path if model.source.cvmfs else f"{CATALOGUE}/{model.name}"


def _container(session: Session, profile: Profile, mounts: Iterable[Body]) -> Body:
    gpus, facility = specs.gpus(session, profile), specs.facility(profile)
    ready, live = _probe("/v2/health/ready"), _probe("/v2/health/live")
    container = pod_spec.container(
        "server",
        (facility.gpu_image if gpus else None) or facility.image,
        env=pod_spec.env({"AF_INFERENCE_CONFIG": f"{CONFIG_DIR}/{CONFIG}"}),
        ports=[{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in PORTS.items()],
        resources=pod_spec.resources(choices.size(profile, specs.spec(session).size), gpus),
        # A large model takes its time, and is asked once; from then on it is a matter of whether the server answers.
        startupProbe={**ready, "periodSeconds": 1, "failureThreshold": 600},
        readinessProbe={**ready, "periodSeconds": 5, "failureThreshold": 3},
        livenessProbe={**live, "periodSeconds": 10, "failureThreshold": 6},
        # One that goes still answers until all nodes have heard of it: whoever asks the Service meets no closed port.
        lifecycle={"preStop": {"sleep": {"seconds": 3}}},
        volumeMounts=list(mounts),
    )
    container["securityContext"] |= {"readOnlyRootFilesystem": True}
    return container


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 5}


def _volumes(session: Session, profile: Profile, models: Iterable[CatalogueModel]) -> Iterator[tuple[Body, Body]]:
    """Yield volumes, each with where it is mounted; one that is mounted twice comes twice."""
    name, size = names.inference(session), choices.size(profile, specs.spec(session).size)
    yield _read_only({"name": "config", "configMap": {"name": name}}, CONFIG_DIR)
    yield _read_only({"name": "token", "secret": {"secretName": name}}, TOKEN_DIR)
    yield from zip(*pod_spec.scratch(size, {"tmp": pod_spec.TMP}), strict=True)
    for model in models:
        yield from _source(model, pod_spec.disk(size))
    if specs.spec(session).upload:
        claim = {"claimName": names.inference_store(session)}
        yield {"name": "store", "persistentVolumeClaim": claim}, {"name": "store", "mountPath": STORE}


def _source(model: CatalogueModel, disk: str) -> Iterator[tuple[Body, Body]]:
    source, path = model.source, f"{CATALOGUE}/{model.name}"
    if source and source.volume_claim:
        yield _read_only(_claim(source.volume_claim.claim_name), path, **_sub_path(source.volume_claim))
    elif source and source.image:
        yield _read_only(pod_spec.empty_dir("copied", disk), path, subPath=model.name)
    elif source and source.cvmfs:
        # Where the driver mounts a repository once somebody looks into it, that has to be seen here as well.
        yield _read_only(_claim(source.cvmfs.claim_name), CVMFS, mountPropagation="HostToContainer")


def _sub_path(claim: ModelOnClaim) -> dict[str, str]:
    return {"subPath": claim.sub_path} if claim.sub_path else {}


def _claim(name: str) -> Body:
    return {"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": True}}


def _read_only(volume: Body, path: str, **more: str) -> tuple[Body, Body]:
    return volume, {"name": volume["name"], "mountPath": path, "readOnly": True, **more}


def _once(volumes: Iterable[Body]) -> list[Body]:
    return list({volume["name"]: volume for volume in volumes}.values())


def _copy(name: str, image: ModelInImage) -> Body:
    """Return what copies a model out of its image: few servers can mount an image (by default from 1.35 on)."""
    container = pod_spec.container(
        f"copy-{pod_spec.digest(name)}",
        image.reference,
        # Where a pod's sandbox is made anew this runs again, into what is there.
        ["cp", "-R", f"{image.path}/.", COPIED],
        resources=pod_spec.fixed_resources(("10m", "32Mi"), ("1", "256Mi")),
        volumeMounts=[{"name": "copied", "mountPath": COPIED, "subPath": name}],
    )
    container["securityContext"] |= {"readOnlyRootFilesystem": True}
    return container


def _beside_the_store(session: Session, store: ModelStore | None) -> dict[str, Any]:
    """Keep replicas on one node where their volume can be on one only: elsewhere they would wait for it for ever."""
    if store is None or store.access_mode == "ReadWriteMany":
        return {}
    term = {
        "labelSelector": {"matchLabels": names.selector(session, NAME)},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
