"""The replicas of a model service: pods of the session's own, by names that are known before. Pure.

They hold nothing that is not in the store or the catalogue, so the last ones go at once where there are to be fewer. A
container that ends is started again by the kubelet; a pod that has failed, was evicted or deleted is replaced here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from af_operator import names
from af_operator.components._shared import pod_reasons, pod_spec, worker_pods
from af_operator.components.inference import server
from af_operator.components.inference.spec import NAME, REPLICAS, models, spec
from af_operator.model import POD, Body, Keep, Manifest, Profile, Session
from af_operator.observed import Observed, Settled
from af_operator.render import render

VERSION = re.compile("[1-9][0-9]{0,8}")


def wanted(session: Session, observed: Observed) -> list[Body]:
    """Return the pods that there are of the replicas that there should be."""
    refs = (POD.ref(names.inference_pod(session, number)) for number in range(spec(session).replicas))
    return [pod for ref in refs if (pod := observed.get(ref))]


def served(session: Session, observed: Observed) -> dict[str, str]:
    """Return the version of each model that a replica serves, as it was begun; nothing while there is none."""
    ready = next(filter(pod_reasons.is_ready, wanted(session, observed)), None)
    annotations = ready["metadata"].get("annotations", {}) if ready else {}
    found = dict(word.partition("=")[::2] for word in annotations.get(names.MODELS, "").split())
    asked = (choice.name for choice in spec(session).models)
    # Anybody who may edit pods can write annotations.
    return {name: version for name in asked if VERSION.fullmatch(version := found.get(name, ""))}


def planned(session: Session, profile: Profile, observed: Settled, number: int) -> Iterator[Manifest | Keep]:
    """Yield so many replicas: those that stay, and those that are missing. A name is given anew once it is free."""
    group, body = names.inference(session), server.pod(session, profile)
    digest = pod_spec.digest([server.config(session, profile), body])
    words = [f"{model.name}={model.version}" for model in models(session, profile)]
    versions = {names.MODELS: " ".join(words)} if words else {}
    for name in (names.inference_pod(session, replica) for replica in range(number)):
        live = observed.get(POD.ref(name))
        if live and _stays(live, observed, digest):
            yield Keep(POD.ref(name))
        elif live is None and group not in observed.refused:
            annotations = {names.CONFIG_HASH: digest, **versions}
            found = render(__package__, "pod", name=name, labels=_labels(session), annotations=annotations, pod=body)
            yield replace(found, batch=group)


def _stays(pod: Body, observed: Settled, digest: str) -> bool:
    """Return whether a pod has its place: one that serves, as it was begun, whatever the catalogue says by now."""
    as_begun = pod["metadata"].get("annotations", {}).get(names.CONFIG_HASH) == digest
    return worker_pods.has_a_place(pod, observed) and (as_begun or pod_reasons.is_ready(pod))


def _labels(session: Session) -> dict[str, str]:
    node_pool = spec(session).node_pool
    nodes = {names.NODE_POOL: node_pool} if node_pool else {}
    return names.labels(session, NAME, REPLICAS) | {names.ROLE: "worker"} | nodes
