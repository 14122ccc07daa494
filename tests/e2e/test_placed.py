"""Where pods of sessions run, who pulls their images, and that they find each other under any domain of a cluster."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator

import pytest

from local_cluster import facility as demo
from tests.support import catalogue, spark
from tests.support.friends import befriend
from tests.support.tenant import HEADLESS, Body, Tenant, kubectl, poll

pytestmark = pytest.mark.timeout(600)

DOMAIN = "facility.test"
LAB = "lab"
ELSEWHERE = {"app": "elsewhere"}
COREFILE = f""".:1053 {{
    kubernetes {DOMAIN}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
CLIENT = """
import os, socket
import grpc
from dask.distributed import Client

try:
    socket.getaddrinfo("kubernetes.default.svc.cluster.local", 443)
    raise SystemExit("this is no other domain")
except socket.gaierror:
    pass
with Client() as client:
    print("dask", client.submit(sum, [1, 2]).result())
grpc.channel_ready_future(grpc.insecure_channel(os.environ["CONNECT"])).result(timeout=60)
print("spark connects")
from XRootD.client import FileSystem
status, _ = FileSystem(os.environ["XROOT_PROXY"].rstrip("/")).ping(timeout=20)
print("cache", status.ok)
"""


def run(**more: object) -> Body:
    return {**HEADLESS, "run": {"command": ["python", "-c", "print('done')"], **more}}


def test_the_kubelet_is_given_the_profiles_pull_secrets(tenant: Tenant) -> None:
    """It says of each pod which of its pull secrets it cannot find."""
    with catalogue.profile(imagePullSecrets=["pull"]) as profile:
        tenant.apply("without", run() | {"profile": profile})
        tenant.wait_condition("without", "RunComplete")
        said = poll(lambda: missing_secrets(tenant, "without"), "the kubelet says which secret it misses")
        assert "(pull)" in said
        key = '{"auths": {"registry.example.org": {"username": "facility", "password": "open sesame"}}}'
        tenant.kubectl("create", "secret", "generic", "pull", f"--from-literal=.dockerconfigjson={key}", TYPE)
        tenant.apply("with", run() | {"profile": profile})
        assert tenant.wait_condition("with", "RunComplete")["reason"] == "Succeeded"
        assert not missing_secrets(tenant, "with")


TYPE = "--type=kubernetes.io/dockerconfigjson"


def missing_secrets(tenant: Tenant, name: str) -> str:
    found = json.loads(tenant.kubectl("get", "events", "-o", "json"))["items"]
    of_run = (e for e in found if e["involvedObject"]["name"].startswith(f"{name}-run"))
    return "".join(e["message"] for e in of_run if e["reason"] == "FailedToRetrieveImagePullSecret")


def test_a_run_goes_where_its_node_pool_is(tenant: Tenant) -> None:
    """Nodes that have no such label take nothing; one that gets it takes what waits."""
    label = f"{tenant.namespace}.example.org/pool"
    pools = [*catalogue.default_spec()["nodePools"], {"name": "own", "nodeSelector": {label: "own"}}]
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 7}
    kubectl("create", "--filename=-", stdin=json.dumps(priority | {"metadata": {"name": tenant.namespace}}))
    try:
        with catalogue.profile(nodePools=pools, priorityClassName=tenant.namespace) as profile:
            tenant.apply("placed", run(nodePool="own") | {"profile": profile})
            waits = tenant.wait_condition("placed", "RunReady", "False", reason="Unschedulable")
            assert "node affinity/selector" in waits["message"]
            kubectl("label", "nodes", "--all", f"{label}=own")
            assert tenant.wait_condition("placed", "RunComplete")["reason"] == "Succeeded"
        [pod] = json.loads(tenant.kubectl("get", "pods", "-o", "json"))["items"]
        assert (pod["spec"]["priorityClassName"], pod["spec"]["priority"]) == (tenant.namespace, 7)
    finally:
        kubectl("label", "nodes", "--all", f"{label}-")
        kubectl("delete", "priorityclass", tenant.namespace)


@pytest.fixture(scope="module")
def lab(facility: demo.Facility, shared_tenant: Tenant) -> Iterator[Tenant]:
    """A session whose parts speak DNS in all ways that there are, ready."""
    with catalogue.profile(sizes=spark.SIZES) as profile:
        pool = {"name": "cpu", "nodePool": "cpu", "size": "small", "workers": {"min": 1, "max": 1}}
        parts: Body = {
            "dask": {"pools": [pool]},
            "spark": spark.pools(cpu=(1, 1)),
            "xcache": {"placement": "Session", "size": "1Gi"},
        }
        shared_tenant.apply(LAB, {"user": "admin", "mode": "Interactive", "profile": profile} | parts)
        shared_tenant.wait_condition(LAB, "Ready", seconds=240)
        yield shared_tenant


def test_all_find_each_other_in_a_cluster_of_another_domain(lab: Tenant, resolver: str) -> None:
    """A worker of Spark as it is but for its resolver, which knows no cluster.local: glibc, Java, gRPC, XRootD ask."""
    create_in(lab, "spark", resolver)
    lab.kubectl("wait", "--for=condition=Ready", "pod/spark-elsewhere", "--timeout=100s")
    parts = lab.session(LAB)["status"]["components"]
    dask, connect = parts["dask"]["endpoints"]["dask"], parts["spark"]["endpoints"]["spark"].removeprefix("sc://")
    given = ("env", f"DASK_SCHEDULER_ADDRESS={dask}", f"CONNECT={connect}")
    said = spark.run(lab, ("spark-elsewhere", "--container=worker"), *given, "python", "-c", CLIENT)
    assert said.split() == ["dask", "3", "spark", "connects", "cache", "True"]
    poll(lambda: len(spark.master(lab, LAB)["workers"]) == 2, "the other worker is the master's, too", 60)


@pytest.fixture(scope="module")
def resolver(shared_tenant: Tenant) -> Iterator[str]:
    """The address of a name server that knows the cluster's Services by another domain alone."""
    account = f"{shared_tenant.namespace}:default"
    kubectl(
        "create",
        "clusterrolebinding",
        shared_tenant.namespace,
        "--clusterrole=system:coredns",
        f"--serviceaccount={account}",
    )
    try:
        yield name_server(shared_tenant)
    finally:
        kubectl("delete", "clusterrolebinding", shared_tenant.namespace)


def name_server(tenant: Tenant) -> str:
    """Start that name server, as the cluster's own is run; return its address."""
    own = json.loads(kubectl("-n", "kube-system", "get", "deployment/coredns", "-o", "json"))
    container = {
        "name": "dns",
        "image": own["spec"]["template"]["spec"]["containers"][0]["image"],
        "args": ["-conf", "/etc/coredns/Corefile"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "conf", "mountPath": "/etc/coredns"}],
        "readinessProbe": {"tcpSocket": {"port": 1053}, "periodSeconds": 1},
    }
    spec = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "conf", "configMap": {"name": "other-dns"}}],
    }
    named = {"name": "other-dns", "labels": {"app": "other-dns"}}
    ports = [{"name": p.lower(), "port": 53, "targetPort": 1053, "protocol": p} for p in ("UDP", "TCP")]
    objects: list[Body] = [
        {"kind": "ConfigMap", "data": {"Corefile": COREFILE}},
        {"kind": "Pod", "spec": spec},
        {"kind": "Service", "spec": {"selector": {"app": "other-dns"}, "ports": ports}},
    ]
    listed = [{"apiVersion": "v1", "metadata": named, **each} for each in objects]
    tenant.kubectl("create", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": listed}))
    tenant.kubectl("wait", "--for=condition=Ready", "pod/other-dns", "--timeout=60s")
    return str(json.loads(tenant.kubectl("get", "service", "other-dns", "-o", "json"))["spec"]["clusterIP"])


def _with_dask(spec: Body, tenant: Tenant) -> None:
    """Give a worker of another engine what the session's Dask knows its own by."""
    labels = f"analysisfacility.io/session={LAB},analysisfacility.io/component=dask,analysisfacility.io/role=worker"
    [pod] = json.loads(tenant.kubectl("get", "pods", f"-l={labels}", "-o", "json"))["items"]
    own, [given] = spec["containers"][0], pod["spec"]["containers"]
    spec["volumes"] += [each for each in pod["spec"]["volumes"] if each["name"] == "dask"]
    own["volumeMounts"] += [each for each in given["volumeMounts"] if each["name"] == "dask"]
    own["env"] += [each for each in given["env"] if each["name"].startswith("DASK_DISTRIBUTED__COMM__")]


def create_in(tenant: Tenant, component: str, resolver: str) -> None:
    """Create a worker's pod once more, with that resolver."""
    labels = (
        f"analysisfacility.io/session={LAB},analysisfacility.io/component={component},analysisfacility.io/role=worker"
    )
    [pod] = json.loads(tenant.kubectl("get", "pods", f"-l={labels}", "-o", "json"))["items"]
    spec = copy.deepcopy(pod["spec"])
    for chosen in ("nodeName", "serviceAccount", "serviceAccountName", "priority", "preemptionPolicy"):
        spec.pop(chosen, None)
    domains = [f"{tenant.namespace}.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN]
    config = {"nameservers": [resolver], "searches": domains, "options": [{"name": "ndots", "value": "5"}]}
    _with_dask(spec, tenant)
    spec |= {"dnsPolicy": "None", "dnsConfig": config}
    metadata = {"name": f"{component}-elsewhere", "labels": ELSEWHERE}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    befriend(tenant, ELSEWHERE)
    tenant.kubectl("create", "--filename=-", stdin=json.dumps(body))
