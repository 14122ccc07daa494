"""Under which engine a session's Dask is: the one that it was begun under, whatever the profile says by now."""

from __future__ import annotations

from typing import Any

import pytest

from af_operator import names
from af_operator.components.dask import engine
from af_operator.components.dask.engine import DASK_KUBERNETES, NATIVE
from af_operator.model import Body
from tests.support.objects import live, of_component, ours, pod, profile, world

SAYS_NATIVE, SAYS_OTHER = profile(dask={"engine": "Native"}), profile(dask={"engine": "DaskKubernetes"})
OURS = {names.ROLE: "scheduler"}
THEIRS = {"dask.org/component": "scheduler"}


def of_dask(api_version: str, kind: str, **labels: str) -> dict[str, Any]:
    return live(api_version, kind, "zmumu-scheduler", of_component("dask", **labels))


def going(body: Body) -> Body:
    return {**body, "metadata": {**body["metadata"], "deletionTimestamp": "2026-01-01T10:00:00Z"}}


CLUSTER = live("kubernetes.dask.org/v1", "DaskCluster", "zmumu", of_component("dask"))


@pytest.mark.parametrize(
    ("children", "says_native", "says_other", "begun"),
    [
        ([], NATIVE, DASK_KUBERNETES, None),
        ([CLUSTER], DASK_KUBERNETES, DASK_KUBERNETES, DASK_KUBERNETES),
        # What is left of a cluster that goes.
        ([of_dask("apps/v1", "Deployment", **THEIRS)], DASK_KUBERNETES, DASK_KUBERNETES, DASK_KUBERNETES),
        ([of_dask("v1", "Service", **THEIRS)], DASK_KUBERNETES, DASK_KUBERNETES, DASK_KUBERNETES),
        (
            [of_dask("kubernetes.dask.org/v1", "DaskWorkerGroup")],
            DASK_KUBERNETES,
            DASK_KUBERNETES,
            DASK_KUBERNETES,
        ),
        ([ours(of_dask("apps/v1", "Deployment", **OURS))], NATIVE, NATIVE, NATIVE),
        ([ours(of_dask("apps/v1", "Deployment", **OURS)), of_dask("v1", "Service", **OURS)], NATIVE, NATIVE, NATIVE),
        ([ours(pod("w", of_component("dask", "cpu", **{names.ROLE: "worker"})))], NATIVE, NATIVE, NATIVE),
        # What goes is as good as gone.
        ([going(ours(of_dask("apps/v1", "Deployment", **OURS)))], NATIVE, DASK_KUBERNETES, None),
        # Of other components there is nothing to tell.
        ([live("apps/v1", "Deployment", "zmumu-xcache", of_component("xcache"))], NATIVE, DASK_KUBERNETES, None),
        ([live("v1", "Service", "zmumu-notebook", of_component("notebook"))], NATIVE, DASK_KUBERNETES, None),
        (
            [live("apps/v1", "Deployment", "m", of_component("spark", **{names.ROLE: "scheduler"}))],
            NATIVE,
            DASK_KUBERNETES,
            None,
        ),
    ],
)
def test_engine(children: list[Body], says_native: Any, says_other: Any, begun: Any) -> None:
    assert engine.of_session(world(*children), SAYS_NATIVE) is says_native
    assert engine.of_session(world(*children), SAYS_OTHER) is says_other
    assert engine.begun(world(*children)) is begun


def test_without_a_word_in_the_profile_it_is_our_own() -> None:
    assert engine.of_session(world(), profile(dask=None)) is NATIVE
