"""The examples' manifests: what they say fits the models, and the cluster's images and address get into them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from af_operator.api import ProfileSpec, SessionSpec
from local_cluster.facility import facility_documents

EXAMPLES = Path(__file__).parents[2] / "examples"
DIMUON = [f"dimuon/{path.name}" for path in sorted((EXAMPLES / "dimuon").glob("session-*.yaml"))]
IMAGES = {
    name: f"localhost:5000/{name}@sha256:{'0' * 64}"
    for name in ("analysis", "spark", "root", "ml", "xcache", "origin", "operator")
}


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return facility_documents(IMAGES, "192.0.2.7")


def only(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [found] = [d for d in documents if d["kind"] == kind]
    return found


def test_profile_has_this_clusters_images_and_address(documents: list[dict[str, Any]]) -> None:
    profile = ProfileSpec.model_validate(only(documents, "AnalysisProfile")["spec"])
    assert [image.image for image in profile.images] == [IMAGES[name] for name in ("analysis", "spark", "root", "ml")]
    assert profile.xcache is not None
    assert profile.xcache.image == IMAGES["xcache"]
    assert profile.results is not None
    assert profile.results.url == "root://192.0.2.7:31094//results"
    assert profile.defaults.image == "analysis"


def test_origin_has_this_clusters_image(documents: list[dict[str, Any]]) -> None:
    [container] = only(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGES["origin"]


def test_origin_is_where_the_profile_and_the_results_url_say(documents: list[dict[str, Any]]) -> None:
    service, profile = only(documents, "Service"), only(documents, "AnalysisProfile")["spec"]
    meta, [port] = service["metadata"], service["spec"]["ports"]
    assert profile["xcache"]["origin"] == f"{meta['name']}.{meta['namespace']}.svc.cluster.local:{port['port']}"
    assert f":{port['nodePort']}//" in profile["results"]["url"]


def test_tenant_is_restricted_and_its_user_gets_the_charts_role_only(documents: list[dict[str, Any]]) -> None:
    [tenant] = [d for d in documents if d["kind"] == "Namespace" and d["metadata"]["name"] == "physics"]
    assert tenant["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    binding = only(documents, "RoleBinding")
    assert binding["roleRef"]["name"] == "analysisfacility-user"
    people = {(s["kind"], s["name"]) for s in binding["subjects"]}
    assert people == {("ServiceAccount", "alice"), ("User", "alice"), ("User", "bob")}
    assert not [d for d in documents if d["kind"] in ("Role", "ClusterRole", "ClusterRoleBinding")]


@pytest.mark.parametrize("example", ["zmumu/session.yaml", *DIMUON])
def test_sessions_fit_the_model_and_the_profile(example: str, documents: list[dict[str, Any]]) -> None:
    body = yaml.safe_load((EXAMPLES / example).read_text())
    session = SessionSpec.model_validate({**body["spec"], "user": "alice"})
    profile = ProfileSpec.model_validate(only(documents, "AnalysisProfile")["spec"])
    pools = [pool for engine in (session.dask, session.spark) if engine for pool in engine.pools]
    assert session.run is not None
    assert session.image in {image.name for image in profile.images}
    assert {pool.node_pool for pool in pools} <= {pool.name for pool in profile.node_pools}
    assert {pool.size for pool in pools} | {session.run.size} <= {size.name for size in profile.sizes}
    assert (EXAMPLES / example).with_name(session.run.command[1]).is_file()
