"""Workers that are pods of the session's own: which are counted, which are made and by what name, and which go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from af_operator import names, plan
from af_operator.api.pools import Pool
from af_operator.components import dask, shipped
from af_operator.components._shared import budget, worker_pods
from af_operator.components._shared.worker_pods import FAILED_PAUSE
from af_operator.components.dask.groups import DaskAnswer, group_name
from af_operator.model import Body, Keep, Manifest, Plan, Refusal, Session, ref_of
from af_operator.observed import Settled, Terms
from af_operator.views import AgentView, PoolAnswer
from tests.support.objects import (
    DASK,
    UNSCHEDULABLE,
    container,
    live,
    of_component,
    ours,
    pod,
    profile,
    session,
    world,
)

MADE = datetime(2026, 1, 1, 10, 1, tzinfo=UTC)
LATER = MADE + timedelta(hours=1)
RUNS = container("worker", running={"startedAt": "2026-01-01T10:01:05Z"})
NATIVE = profile(dask={"engine": "Native"}, limits={"workers": 100, "gpus": 8})
NONCE = "0" * 64


def of_size(least: int, most: int | None = None, **more: Any) -> Session:
    pool = {"name": "cpu", "nodePool": "cpu", "workers": {"min": least, "max": least if most is None else most}}
    return session(dask={"pools": [pool | more]})


def group_of(s: Session) -> str:
    assert s.spec.dask
    return group_name(s, s.spec.dask.pools[0])


def worker(index: int, *, group: str | None = None, state: dict[str, Any] = RUNS, **status: Any) -> dict[str, Any]:
    """Return a pod of the group's that the operator has made; a later one has a higher index."""
    name = group or group_of(of_size(1))
    labels = {names.ROLE: "worker", names.WORKER_GROUP: name, names.NODE_POOL: "cpu"}
    found = ours(pod(names.worker(name, f"{index:010x}"), of_component("dask", "cpu", **labels), state, **status))
    found["metadata"]["creationTimestamp"] = f"2026-01-01T10:01:{index:02}Z"
    return found


def ready(number: int, **more: Any) -> list[dict[str, Any]]:
    return [worker(index, ready=True, **more) for index in range(number)]


def scheduler(**spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "scheduler", "image": "of-old"}]}}
    labels = of_component("dask", **{names.ROLE: "scheduler"})
    body = live("apps/v1", "Deployment", "zmumu-scheduler", labels, spec={"replicas": 1, "template": template} | spec)
    return ours(body)


def planned(s: Session, observed: Settled) -> list[Any]:
    shares = budget.shares(NATIVE, {"dask": dask.demands(s, NATIVE, observed)})
    return list(dask.desired(s, NATIVE, observed, Terms(workers=shares["dask"])))


def new(s: Session, *there: Body, **more: Any) -> list[Body]:
    """Return the workers that are made."""
    given: dict[str, Any] = {"nonce": NONCE, "now": LATER}
    observed = world(scheduler(), *there, **given | more)
    return [i.body for i in planned(s, observed) if isinstance(i, Manifest) and i.ref.kind == "Pod"]


def build(s: Session, *there: Body, view: AgentView | None = None) -> Plan:
    observed = world(scheduler(), *there, dask=view, nonce=NONCE)
    return plan.build(shipped(), s, NATIVE, observed, LATER)


def gone(s: Session, *there: Body, view: AgentView | None = None) -> list[str]:
    """Return the names of the pods that are deleted."""
    return sorted(body["metadata"]["name"] for body in build(s, *there, view=view).delete if body["kind"] == "Pod")


def said(group: str, **pool: Any) -> AgentView:
    return AgentView(DaskAnswer(pools={group: PoolAnswer(**pool)}))


def names_of(bodies: Sequence[Body]) -> list[str]:
    return [body["metadata"]["name"] for body in bodies]


def test_they_are_made_by_name_and_carry_what_they_are() -> None:
    s = of_size(2)
    made = new(s)
    found = {body["metadata"]["name"] for body in made}
    assert len(found) == 2
    for body in made:
        group, _, token = body["metadata"]["name"].partition("-worker-")
        assert (group, len(token), len(body["metadata"]["name"]) <= 63) == (group_of(s), 10, True)
        labels = body["metadata"]["labels"]
        assert (labels[names.ROLE], labels[names.POOL], labels[names.WORKER_GROUP]) == ("worker", "cpu", group)
        assert labels[names.NODE_POOL] == "cpu"
    stamped = [m.body for m in build(s).apply if m.ref.kind == "Pod"]
    owners = [body["metadata"]["ownerReferences"] for body in stamped]
    assert [(o["uid"], o["controller"]) for each in owners for o in each] == [(s.uid, True)] * 2


def test_a_pass_that_is_made_anew_gives_the_same_names_and_another_pass_others() -> None:
    s = of_size(3)
    first = names_of(new(s))
    assert names_of(new(s)) == first
    # One answer came and is in the store: its name is taken, and the others are as they were.
    there = worker(0, group=group_of(s))
    there["metadata"]["name"] = first[0]
    assert names_of(new(s, there)) == first[1:]
    assert not set(names_of(new(s, nonce="1" * 64))) & set(first)


def test_nobody_can_guess_a_name() -> None:
    """It follows from the nonce, which is in no object."""
    [one] = new(of_size(1))
    assert NONCE not in str(one)


@pytest.mark.parametrize(
    ("status", "replaced"),
    [
        ({"ready": True}, False),
        ({}, False),
        ({"phase": "Pending", "conditions": [UNSCHEDULABLE]}, False),
        ({"phase": "Failed"}, True),  # its containers have run
        ({"phase": "Succeeded"}, True),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, True),
    ],
)
def test_one_that_is_over_is_replaced(status: dict[str, Any], replaced: bool) -> None:
    over = worker(0, **status)
    assert len(new(of_size(1), over)) == int(replaced)
    assert (over["metadata"]["name"] in gone(of_size(1), over)) is replaced


def test_one_that_goes_is_replaced_and_not_deleted_twice() -> None:
    going = worker(0, ready=True)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T10:02:00Z"
    assert len(new(of_size(1), going)) == 1
    assert gone(of_size(1), going) == []


def failed_at_once() -> dict[str, Any]:
    """Return a pod that its node would not even start."""
    found = worker(0, phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu")
    del found["status"]["containerStatuses"]
    return found


def test_one_that_no_container_of_ran_is_replaced_after_a_while() -> None:
    found, s = failed_at_once(), of_size(1)
    almost = MADE + FAILED_PAUSE - timedelta(seconds=1)
    assert new(s, found, now=almost) == []
    assert len(new(s, found, now=MADE + FAILED_PAUSE)) == 1
    assert dask.deadline(s, world(scheduler(), found, now=almost)) == MADE + FAILED_PAUSE
    assert dask.deadline(s, world(scheduler(), *ready(2))) is None


@pytest.mark.parametrize("time", [None, "tomorrow", ""])
def test_one_of_which_nobody_knows_when_it_was_made_holds_no_place(time: str | None) -> None:
    found = failed_at_once()
    found["metadata"]["creationTimestamp"] = time
    assert len(new(of_size(1), found)) == 1
    assert worker_pods.deadline("dask", world(found)) is None


def test_without_a_word_of_the_scheduler_nobody_goes_who_has_run() -> None:
    assert gone(of_size(1), *ready(3)) == []


def test_who_is_retired_goes_and_no_more_than_are_too_many() -> None:
    three, group = ready(3), group_of(of_size(1))
    one = said(group, retired=frozenset(names_of(three)[1:2]))
    assert gone(of_size(2), *three, view=one) == names_of(three)[1:2]
    everybody = said(group, retired=frozenset(names_of(three)))
    assert len(gone(of_size(1), *three, view=everybody)) == 2
    assert gone(of_size(3), *three, view=everybody) == []


def test_those_that_never_started_leave_first_and_unasked() -> None:
    nowhere = worker(5, state=container("worker", waiting={"reason": "ContainerCreating"}), conditions=[UNSCHEDULABLE])
    pull = worker(6, state=container("worker", waiting={"reason": "ErrImagePull", "message": "no such image"}))
    crashed = worker(7, state=container("worker", waiting={"reason": "CrashLoopBackOff"}, last={"exitCode": 1}))
    there = [*ready(2), nowhere, pull, crashed]
    never = names_of([nowhere, pull])
    retired = said(group_of(of_size(1)), retired=frozenset(names_of(there[:1])))
    assert gone(of_size(4), *there, view=retired) == never[:1]
    assert gone(of_size(3), *there, view=retired) == never
    assert gone(of_size(2), *there, view=retired) == sorted([*never, names_of(there)[0]])
    assert gone(of_size(1), *there) == never, "the others may hold results"


def test_after_long_silence_the_newest_go() -> None:
    three = ready(3)
    assert gone(of_size(1), *three, view=AgentView(trouble="away")) == []
    assert gone(of_size(1), *three, view=AgentView(trouble="away", given_up=True)) == names_of(three)[1:]


def labelled() -> dict[str, Any]:
    """Return a pod that carries the labels of a worker and that nobody of ours has made."""
    found = worker(9, ready=True)
    found["metadata"]["managedFields"] = [{"manager": "kubectl", "operation": "Update"}]
    return found


def of_another_owner() -> dict[str, Any]:
    return ours(worker(9, ready=True), owner="another")


@pytest.mark.parametrize("foreign", [labelled(), of_another_owner()])
def test_pods_that_only_carry_labels_are_neither_counted_nor_deleted(foreign: dict[str, Any]) -> None:
    assert len(new(of_size(1), foreign)) == 1
    assert gone(of_size(1), foreign) == []
    assert gone(of_size(0, 0), foreign, *ready(1)) == []
    assert dask.health(of_size(1), world(scheduler(), foreign)).details["pools"]["cpu"]["ready"] == 0


@pytest.mark.parametrize(
    ("up", "nowhere", "made", "left"),
    [
        (0, 0, 3, 3),  # new before old
        (1, 0, 2, 2),
        (3, 0, 0, 0),
        (0, 2, 1, 1),  # two find no node: two make room
    ],
)
def test_another_shape_is_new_before_old(up: int, nowhere: int, made: int, left: int) -> None:
    s, before = of_size(3, size="medium"), group_of(of_size(3))
    there = [worker(10 + i, group=group_of(s), ready=True) for i in range(up)]
    waits = container("worker", waiting={"reason": "ContainerCreating"})
    stuck = [worker(20 + i, group=group_of(s), state=waits, conditions=[UNSCHEDULABLE]) for i in range(nowhere)]
    old = ready(3, group=before)
    assert len(new(s, *old, *there, *stuck)) == made
    retired = said(before, retired=frozenset(names_of(old)))
    found = gone(s, *old, *there, *stuck, view=retired)
    assert len(found) == 3 - left
    assert set(found) <= set(names_of(old))


def test_a_removed_pool_goes_once_its_workers_are_retired() -> None:
    old = ready(2, group="zmumu-old-1a2b3c")
    assert gone(of_size(0, 1), *old) == []
    assert gone(of_size(0, 1), *old, view=said("zmumu-old-1a2b3c", retired=frozenset(names_of(old)))) == names_of(old)


def test_late_workers_have_the_schedulers_image() -> None:
    [early] = [
        i.body for i in planned(of_size(1), world(nonce=NONCE)) if isinstance(i, Manifest) and i.ref.kind == "Pod"
    ]
    [late] = new(of_size(1))
    assert early["spec"]["containers"][0]["image"] != "of-old"
    assert late["spec"]["containers"][0]["image"] == "of-old"


def test_a_scheduler_that_runs_stays_as_it_is_and_one_that_was_stopped_starts_as_it_was() -> None:
    [item] = [i for i in planned(of_size(1), world(scheduler())) if i.ref == ref_of(scheduler())]
    assert isinstance(item, Keep)
    stopped = scheduler(replicas=0)
    [item] = [i for i in planned(of_size(1), world(stopped)) if i.ref == ref_of(stopped)]
    assert item.body["spec"]["replicas"] == 1
    assert item.body["spec"]["template"]["spec"] == stopped["spec"]["template"]["spec"]


def test_while_a_batch_is_refused_nothing_is_asked_for_and_it_is_said() -> None:
    s = of_size(2)
    quota = Refusal(ref_of(worker(0)), "dask", "Refused", 'pods "x" is forbidden: exceeded quota: small')
    refused = {group_of(s): quota}
    assert new(s, *ready(1), refused=refused) == []
    up = ours(pod("s", of_component("dask", **{names.ROLE: "scheduler"}), ready=True))
    found = dask.health(s, world(scheduler(), up, *ready(1), refused=refused))
    assert (found.ready, found.reason) == (False, "QuotaExceeded")
    assert found.message == "pool cpu: 1 of at least 2 workers ready: exceeded quota: small"
    elastic = of_size(1, 2)
    view = said(group_of(elastic), wanted=2)
    found = dask.health(elastic, world(scheduler(), up, *ready(1), refused={group_of(elastic): quota}, dask=view))
    assert found.ready
    assert found.message == "pool cpu: 1 of 2 workers (exceeded quota: small)"


def told(reason: str) -> dict[str, Any]:
    since = {"lastTransitionTime": "2026-01-01T10:02:00Z", "message": ""}
    return {"conditions": [{"type": "DaskReady", "status": "True", "reason": reason, **since}]}


@pytest.mark.parametrize(
    ("deployment", "was_ready", "reason"),
    [
        (None, True, "Deleted"),
        (None, False, None),  # it is not there yet
        ("2026-01-01T10:01:00Z", True, None),
        ("2026-01-01T10:03:00Z", True, "Deleted"),  # this is another one already
        ("2026-01-01T10:03:00Z", False, None),
    ],
)
def test_a_scheduler_that_is_gone_is_lost(deployment: str | None, was_ready: bool, reason: str | None) -> None:
    s = replace(session(dask=DASK), status=told("Ready") if was_ready else {})
    there = [scheduler()] if deployment else []
    for body in there:
        body["metadata"]["creationTimestamp"] = deployment
    lost = dask.health(s, world(*there)).condition
    assert (lost and lost.reason) == reason


@pytest.mark.parametrize(
    ("created", "restarts", "reason"),
    [("10:01:00", 0, None), ("10:02:00", 0, "Replaced"), ("10:01:00", 1, "Restarted")],
)
def test_a_scheduler_that_began_anew_is_lost(created: str, restarts: int, reason: str | None) -> None:
    complete = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    deployment = scheduler()
    deployment["status"] = {"conditions": [{**complete, "lastUpdateTime": "2026-01-01T10:01:30Z"}]}
    state = {**container("scheduler", running={}), "restartCount": restarts}
    up = pod("s", of_component("dask", **{names.ROLE: "scheduler"}), state, ready=True)
    up["metadata"]["creationTimestamp"] = f"2026-01-01T{created}Z"
    lost = dask.health(session(dask=DASK), world(deployment, up)).condition
    assert (lost and lost.reason) == reason


def test_a_pool_is_the_same_group_whatever_its_number_of_workers() -> None:
    pools = [Pool.model_validate({"name": "cpu", "nodePool": "cpu", "workers": {"max": most}}) for most in (1, 9)]
    assert len({group_name(session(), pool) for pool in pools}) == 1
