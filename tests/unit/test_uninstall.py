"""What keeps the chart from being uninstalled, and in which words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from af_kube.errors import HttpError
from af_kube.request import Request
from af_operator import uninstall

SESSIONS = "/apis/analysisfacility.io/v1alpha1/{}analysissessions"
CLUSTERS = "/apis/kubernetes.dask.org/v1/{}daskclusters"


class Api:
    """Lists, by path; others may not be read, or are of no kind that there is."""

    def __init__(self, lists: Mapping[str, list[dict[str, Any]]]) -> None:
        self._lists = lists

    async def read(self, request: Request) -> bytes:
        if request.path not in self._lists:
            raise HttpError(403 if "sessions" in request.path else 404, "not here")
        kind = "DaskClusterList" if "dask" in request.path else "AnalysisSessionList"
        return json.dumps({"kind": kind, "items": self._lists[request.path]}).encode()

    def lines(self, request: Request) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        raise NotImplementedError(request)


def session(name: str, phase: str | None, **metadata: Any) -> dict[str, Any]:
    status = {"phase": phase} if phase else {}
    return {"metadata": {"name": name, "namespace": "physics", **metadata}, "spec": {"user": "alice"}, "status": status}


def cluster(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "physics", **metadata}}


async def texts(lists: Mapping[str, list[dict[str, Any]]], *namespaces: str, dask: bool = False) -> list[str]:
    return [one.text for one in await uninstall.left(Api(lists), namespaces, dask=dask)]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Refused"])
async def test_what_has_ended_needs_nobody(phase: str) -> None:
    assert await texts({SESSIONS.format(""): [session("zmumu", phase)]}) == []


@pytest.mark.parametrize("phase", ["Running", "Pending", "Suspended", "Ready", None])
async def test_what_has_not_ended_is_named(phase: str | None) -> None:
    found = await texts({SESSIONS.format(""): [session("zmumu", phase)]})
    assert found == [f"analysissession physics/zmumu: {phase or 'new'}, of alice"]


async def test_only_what_the_release_serves_is_looked_at_as_far_as_it_is_there() -> None:
    lists = {SESSIONS.format("namespaces/physics/"): [session("zmumu", "Running")]}
    assert len(await texts(lists, "physics", "detector")) == 1


async def test_who_may_not_look_anywhere_does_not_call_it_empty() -> None:
    with pytest.raises(HttpError, match="403"):
        await texts({})


async def test_clusters_of_dask_matter_where_their_operator_goes() -> None:
    lists = {SESSIONS.format(""): [], CLUSTERS.format(""): [cluster("mine")]}
    assert await texts(lists) == []
    assert await texts(lists, dask=True) == ["daskcluster physics/mine"]


@pytest.mark.parametrize("way", [{"deletionTimestamp": "2026-01-01T00:00:00Z"}, {"ownerReferences": [{"uid": "1"}]}])
async def test_what_is_on_its_way_out_is_waited_for_and_not_for_ever(
    way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uninstall, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(uninstall, "PAUSE_SECONDS", 0.05)
    clusters = [cluster("zmumu", **way)]
    api = Api({SESSIONS.format(""): [], CLUSTERS.format(""): clusters})
    assert [one.text for one in await uninstall.settled(api, (), dask=True)] == ["daskcluster physics/zmumu"]
    clusters.clear()
    assert await uninstall.settled(api, (), dask=True) == []


def test_the_words_name_few_of_many_and_what_to_do() -> None:
    many = [uninstall.Left(f"analysissession physics/s{number}: Running, of alice", False) for number in range(25)]
    said = list(uninstall.refusal(many, ("physics", "detector"), "helm rollback af 3"))
    assert "  and 5 more" in said
    assert [line for line in said if "kubectl" in line] == [
        "  kubectl delete analysissessions --all --namespace=physics",
        "  kubectl delete analysissessions --all --namespace=detector",
    ]
    assert said[-1] == "To keep the release: helm rollback af 3"
