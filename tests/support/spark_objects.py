"""A session with Spark in a catalogue that has it, and what becomes of it as objects, without a cluster."""

from __future__ import annotations

import base64
from typing import Any

from af_operator import names
from af_operator.components import spark
from af_operator.components.spark import spec as specs
from af_operator.model import Body, Keep, Manifest, Profile, Session
from af_operator.observed import Settled, Terms
from af_operator.views import AgentView
from tests.support.objects import of_component, ours, profile, session
from tests.support.objects import pod as pod_of

IMAGES = [
    {"name": "analysis", "image": "registry.example.org/analysis:1"},
    {"name": "spark", "image": "registry.example.org/spark:1", "provides": ["Spark"]},
    {"name": "root", "image": "registry.example.org/root:1", "provides": ["Spark"]},
]
SIZES = [
    {"name": "small", "cpu": "1", "memory": "2Gi"},
    {"name": "medium", "cpu": "1500m", "memory": "4Gi"},
    {"name": "wide", "cpu": "8", "memory": "4Gi"},
    {"name": "many", "cpu": "4", "memory": "4064Mi"},
    {"name": "tiny", "cpu": "1", "memory": "1Gi"},
]


def facility(**changes: Any) -> Profile:
    return profile(images=IMAGES, sizes=SIZES, **changes)


def pool(name: str = "cpu", **changes: Any) -> dict[str, Any]:
    return {"name": name, "nodePool": "cpu", "workers": {"min": 1, "max": 2}, **changes}


def with_spark(*pools: dict[str, Any], image: str | None = None, **more: Any) -> Session:
    return session(spark={"pools": list(pools or [pool()]), **more}, image=image, notebook={})


def terms(session: Session, **workers: int) -> Terms:
    return Terms(workers={p.name: p.workers.max for p in specs.spec(session).pools} | workers)


def objects(session: Session, *children: Body, agent: AgentView | None = None) -> list[Manifest | Keep]:
    seen = Settled(children=children, agents={"spark": agent} if agent else {}, nonce="n" * 64)
    return list(spark.desired(session, facility(), seen, terms(session)))


def named(items: list[Manifest | Keep], kind: str, name: str) -> dict[str, Any]:
    [found] = [i.body for i in items if isinstance(i, Manifest) and i.ref.kind == kind and i.ref.name == name]
    return dict(found)


def decoded(secret: Body) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def container(deployment: Body, name: str) -> dict[str, Any]:
    [found] = [each for each in deployment["spec"]["template"]["spec"]["containers"] if each["name"] == name]
    return dict(found)


def worker_pod(asked: Session, name: str, **status: Any) -> dict[str, Any]:
    [group] = specs.desired_groups(asked)
    labels = of_component("spark", "cpu", **{names.ROLE: "worker", names.WORKER_GROUP: group, names.NODE_POOL: "cpu"})
    return ours(pod_of(f"{group}-worker-{name}", labels, **status))
