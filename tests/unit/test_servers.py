"""Servers that a profile names, and which of them a NetworkPolicy can say."""

from __future__ import annotations

import pytest

from af_operator import servers
from tests.support.objects import profile


@pytest.mark.parametrize(
    ("url", "namespace", "address", "port"),
    [
        ("root://origin.storage.svc.cluster.local:1094//data", "storage", None, 1094),
        ("root://origin.storage.svc", "storage", None, 1094),
        ("https://origin.storage.svc./x", "storage", None, 443),
        ("root://pod-0.origin.storage.svc.example.org:1095//x", "storage", None, 1095),
        ("root://origin//data", "", None, 1094),
        ("root://eos.example.org//eos", None, None, 1094),
        ("root://svc.example.org//eos", None, None, 1094),
        # Two labels may be a Service or a site's own domain: nobody can tell.
        ("root://origin.storage//data", None, None, 1094),
        ("root://192.0.2.10:1097//data", None, "192.0.2.10/32", 1097),
        ("http://[2001:db8::7]/data", None, "2001:db8::7/128", 80),
        ("davs://storage.example.org/data", None, None, 443),
    ],
)
def test_where_a_server_is(url: str, namespace: str | None, address: str | None, port: int) -> None:
    [found] = servers.of_url("results.url", url)
    assert found.namespace == namespace
    assert str(found.address) == str(address)
    assert found.port == port


@pytest.mark.parametrize(
    "url", ["s3://bucket/af", "file:///shared/results", "root://x:70000//y", "root:///x", "http://[x"]
)
def test_what_names_no_server(url: str) -> None:
    assert servers.of_url("results.url", url) == []


def test_those_of_a_profile() -> None:
    triton = {"engine": "Url", "image": "inference", "url": {"grpc": "triton.example.org:8001"}}
    xcache = {"image": "xcache", "origin": "origin.example.org"}
    found = servers.of_profile(
        profile(xcache=xcache, results={"url": "https://a.example.org/x"}, inference=triton).spec
    )
    assert [(each.field, each.host, each.port) for each in found] == [
        ("xcache.origin", "origin.example.org", 1094),
        ("results.url", "a.example.org", 443),
        ("inference.url.grpc", "triton.example.org", 8001),
    ]
