"""What comes and goes while a watch is broken, and too old to go on: the end is as if nothing had been."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from af_operator import names
from af_operator.components import shipped
from af_operator.model import POD, Kind
from af_operator.world import NODE, PROFILE, QUOTA, SESSION, shared_kinds
from local_cluster.control_plane import ControlPlane
from local_cluster.processes import poll
from tests.support.faults import WATCH_GONE
from tests.support.many_sessions import NOTEBOOK, RUN, profile, session
from tests.support.played_dask import IMAGE, ready
from tests.support.proxied_operator import ProxiedOperator, of_kind, proxied
from tests.support.site import KINDS, Body, Ref, Site

ENGINE = "DaskKubernetes"
"""Sessions under it have something of each kind."""
NAMESPACE = "gap"
END_SECONDS = 60
WORKERS = 2
CALM_SECONDS = 3.0
LISTS = 2
"""After a watch that is too old there is one list, and one more since the next watch is too old as well."""
# What a gap of the others does is told apart below.
MADE_BY_THE_OPERATOR = [kind for kind in KINDS if kind not in (NODE, PROFILE, QUOTA, SESSION, POD)]
Refs = set[tuple[str, str]]


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedOperator]:
    site.open_namespaces(NAMESPACE)
    with proxied(plane, tmp_path_factory.mktemp("gap")) as found:
        found.process.start()
        found.process.wait_ready()
        yield found


@pytest.fixture(scope="module")
def models(site: Site, operator: ProxiedOperator) -> dict[str, Refs]:
    """What a run and a notebook consist of when all is well, by the names that they have in a session called MODEL."""
    site.create([session("model-run", NAMESPACE, RUN), session("model-note", NAMESPACE, NOTEBOOK, "model-note")])
    operator.settle(3)
    return {
        kind: {(p, n.replace(f"model-{kind}", "MODEL")) for p, n in refs(site, f"model-{kind}")}
        for kind in ("run", "note")
    }


def refs(site: Site, name: str) -> Refs:
    """Return the objects of a session, and of a user of the same name."""
    return {(ref.plural, ref.name) for one in (name, f"home-{name}") for ref in site.of(one)}


class Gap:
    """One broken watch.

    Parameters
    ----------
    kind
        What the operator does not hear of.
    """

    def __init__(self, site: Site, operator: ProxiedOperator, kind: Kind) -> None:
        self._site, self._operator, self._kind = site, operator, kind
        self._watch = of_kind("watch", kind)

    def __enter__(self) -> Gap:
        self._operator.proxy.until(lambda: self._open() > 0, "it watches")
        self._watches = self._operator.proxy.silence(self._watch)
        self._listed = len(self._operator.lists(self._kind))
        return self

    def __exit__(self, *_: object) -> None:
        # Those that begin next are too old, too: a list that is followed by another is no reason for a third.
        self._again = self._operator.proxy.rule(WATCH_GONE, self._watch, times=self._watches)
        self._operator.proxy.end(self._watch)

    def heals(self, whole: Callable[[], bool], what: Callable[[], Any]) -> None:
        """Wait until the world is as it should be; then it must stay so, and nobody may go on listing or writing."""
        assert poll(whole, END_SECONDS, 0.5), what()
        before = [str(c) for c in self._operator.proxy.writes if not c.path.endswith("/status")]
        threading.Event().wait(CALM_SECONDS)
        after = [str(c) for c in self._operator.proxy.writes if not c.path.endswith("/status")]
        assert after[len(before) :] == []
        assert whole(), what()
        assert self._again.hits == self._watches
        assert len(self._operator.lists(self._kind)) - self._listed <= LISTS * self._watches

    def _open(self) -> int:
        return self._operator.proxy.under_way(self._watch)


@pytest.mark.parametrize("kind", MADE_BY_THE_OPERATOR, ids=lambda kind: kind.plural)
def test_a_child_goes_and_others_come(
    site: Site, operator: ProxiedOperator, models: dict[str, Refs], kind: Kind
) -> None:
    which = next(name for name, model in models.items() if kind.plural in {plural for plural, _ in model})
    old, new = f"{kind.plural}-old", f"{kind.plural}-new"
    site.create([of(which, old)])
    complete(site, models[which], old)
    with Gap(site, operator, kind) as gap:
        victim, body = next((r, b) for r, b in mine(site, kind, old).items())
        site.delete(kind, victim)
        site.create([of(which, new)])
    expected = {name: named(models[which], name) for name in (old, new)}

    def whole() -> bool:
        back = mine(site, kind, old).get(victim, body)["metadata"]["uid"] != body["metadata"]["uid"]
        return back and {name: refs(site, name) for name in expected} == expected

    gap.heals(whole, lambda: {name: expected[name] ^ refs(site, name) for name in expected})


def test_a_session_goes_and_others_come(site: Site, operator: ProxiedOperator, models: dict[str, Refs]) -> None:
    site.create(of("run", name) for name in ("goes", "stays"))
    for name in ("goes", "stays"):
        complete(site, models["run"], name)
    before = {ref: body["metadata"]["uid"] for ref, body in site.of("stays").items()}
    with Gap(site, operator, SESSION) as gap:
        children = refs(site, "goes")
        site.delete(SESSION, Ref(SESSION.plural, NAMESPACE, "goes"))
        site.create([of("run", "comes")])
        assert poll(lambda: refs(site, "goes") != children, END_SECONDS), "its children are collected"

    def whole() -> bool:
        return refs(site, "goes") == set() and refs(site, "comes") == named(models["run"], "comes")

    gap.heals(whole, lambda: (refs(site, "goes"), refs(site, "comes")))
    assert {ref: body["metadata"]["uid"] for ref, body in site.of("stays").items()} == before


def test_a_pod_goes_and_another_comes(site: Site, operator: ProxiedOperator, models: dict[str, Refs]) -> None:
    for name in ("one", "other"):
        site.create([of("run", name)])
        complete(site, models["run"], name)
    site.put(cache_pod(site, "one"), **ready())
    assert poll(lambda: has(site, "one", "XCacheReady"), END_SECONDS, 0.5)
    with Gap(site, operator, POD) as gap:
        site.delete(POD, Ref(POD.plural, NAMESPACE, "one-xcache-0"))
        site.put(cache_pod(site, "other"), **ready())

    def whole() -> bool:
        return not has(site, "one", "XCacheReady") and has(site, "other", "XCacheReady")

    gap.heals(whole, lambda: [site.get(SESSION, NAMESPACE, name)["status"] for name in ("one", "other")])


def test_a_worker_goes_and_is_replaced(site: Site, operator: ProxiedOperator) -> None:
    """Where workers are pods of the session's own, a gap must not leave it with fewer."""
    site.create(
        [catalogue("native", "Native"), session("own", NAMESPACE, RUN | {"profile": "catalogue-native"}, "own")]
    )
    assert poll(lambda: len(mine(site, POD, "own")) == WORKERS, END_SECONDS, 0.5)
    with Gap(site, operator, POD) as gap:
        victim, _ = mine(site, POD, "own").popitem()
        site.delete(POD, victim)
        assert poll(lambda: victim not in mine(site, POD, "own"), END_SECONDS, 0.5)
    gap.heals(lambda: len(mine(site, POD, "own")) == WORKERS, lambda: mine(site, POD, "own").keys())
    assert victim not in mine(site, POD, "own"), "another name is another worker"


def test_a_node_goes_and_another_comes(site: Site, operator: ProxiedOperator) -> None:
    def gpus() -> int:
        pools = site.get(PROFILE, "", "default").get("status", {}).get("nodePools", ())
        return sum(pool["gpus"] for pool in pools)

    node(site, "first", 2)
    assert poll(lambda: gpus() == 2, END_SECONDS, 0.5), gpus()
    with Gap(site, operator, NODE) as gap:
        site.delete(NODE, Ref(NODE.plural, "", "first"))
        node(site, "second", 3)
    gap.heals(lambda: gpus() == 3, gpus)


def test_a_profile_goes_and_another_comes(site: Site, operator: ProxiedOperator, models: dict[str, Refs]) -> None:
    site.create([catalogue("goes"), session("late", NAMESPACE, RUN | {"profile": "catalogue-comes"}, "late")])
    assert poll(lambda: refused(site, "late"), END_SECONDS, 0.5)
    with Gap(site, operator, PROFILE) as gap:
        site.create([catalogue("comes")])
        site.delete(PROFILE, Ref(PROFILE.plural, "", "catalogue-goes"))
    expected = named(models["run"], "late")
    gap.heals(lambda: refs(site, "late") == expected, lambda: refs(site, "late") ^ expected)
    site.create([session("early", NAMESPACE, RUN | {"profile": "catalogue-goes"}, "early")])
    assert poll(lambda: refused(site, "early"), END_SECONDS, 0.5), "that profile is gone"


def of(which: str, name: str) -> Body:
    return session(name, NAMESPACE, {"run": RUN, "note": NOTEBOOK}[which], name)


def named(model: Refs, name: str) -> Refs:
    return {(plural, each.replace("MODEL", name)) for plural, each in model}


def complete(site: Site, model: Refs, name: str) -> None:
    expected = named(model, name)
    assert poll(lambda: refs(site, name) == expected, END_SECONDS, 0.5), refs(site, name) ^ expected


def mine(site: Site, kind: Kind, name: str) -> dict[Ref, Body]:
    """Return the objects of one kind: a session's, or those that outlive it and are its user's."""
    return site.of(f"home-{name}" if kind in shared_kinds(shipped()) else name, kind)


def cache_pod(site: Site, name: str) -> Body:
    uid = site.get(SESSION, NAMESPACE, name)["metadata"]["uid"]
    labels = {names.SESSION_UID: uid, names.COMPONENT: "xcache"}
    metadata = {"name": f"{name}-xcache-0", "namespace": NAMESPACE, "labels": labels}
    spec = {"containers": [{"name": "program", "image": IMAGE}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def node(site: Site, name: str, gpus: int) -> None:
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"example.org/gpus": "true"}}}
    conditions = [{"type": "Ready", "status": "True"}]
    amounts = {"nvidia.com/gpu": str(gpus)}
    site.put(body, conditions=conditions, capacity=amounts, allocatable=amounts)


def catalogue(name: str, engine: str = ENGINE) -> Body:
    return {**profile(engine), "metadata": {"name": f"catalogue-{name}"}}


def has(site: Site, name: str, condition: str) -> bool:
    conditions = site.get(SESSION, NAMESPACE, name).get("status", {}).get("conditions", ())
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


def refused(site: Site, name: str) -> bool:
    conditions = site.get(SESSION, NAMESPACE, name).get("status", {}).get("conditions", ())
    return any(c["reason"] == "ProfileNotFound" for c in conditions)
