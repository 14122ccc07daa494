"""Two sessions in one namespace, bob's with everything that there is and alice's, and strangers around them."""

from __future__ import annotations

import base64
import json
import re
import select
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from af_operator.components._shared import pki
from local_cluster import facility as demo
from tests.support import catalogue, spark, strangers
from tests.support.known_ports import BESIDE, known
from tests.support.people import Person
from tests.support.ports import Port, listening, of_session
from tests.support.strangers import Credentials, Stranger
from tests.support.tenant import ENVIRONMENT, Body, Tenant, poll

VICTIM, HERS = "victim", "hers"
IMAGE = "spark"
"""The user's image that speaks most: Dask, gRPC, Spark."""
NOTEBOOK = (f"{VICTIM}-notebook-0", "--container=notebook")
CLASSIC = """
import sys
from pyspark import SparkConf, SparkContext
# An executor that has nothing to do would go.
conf = SparkConf().set("spark.ui.enabled", "true").set("spark.dynamicAllocation.executorIdleTimeout", "1h")
with SparkContext(conf=conf) as context:
    context.addFile("/etc/hostname")
    print(context.parallelize(range(10), 2).sum(), flush=True)
    sys.stdin.read()
"""
OPEN: Body = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "everything"},
    # Policies add up: with this one it is as if nothing enforced the others.
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]},
}
UP_SECONDS = 420.0
"""Until all is ready, on a node that others use: they may have the room at first."""
DASK: Body = {"pools": [{"name": "cpu", "nodePool": "cpu", "size": "small", "workers": {"min": 1, "max": 1}}]}
EVERYTHING: Body = {
    "mode": "Interactive",
    "image": IMAGE,
    "notebook": {"size": spark.DRIVER_SIZE},
    "dask": DASK,
    "spark": spark.pools(cpu=(1, 1)),
    "inference": {"models": [{"name": "dimuon"}], "upload": True, "size": "small"},
    # The model is not there; how the cache asks for it is.
    "xcache": {"placement": "Session", "size": "1Gi", "decision": {"model": "popularity", "thresholdPercent": 30}},
}
ANOTHER: Body = {
    "mode": "Interactive",
    "image": IMAGE,
    "notebook": {"size": "small"},
    "dask": DASK,
    "xcache": {"placement": "Sidecar", "size": "1Gi"},
}


@dataclass(frozen=True)
class Place:
    """Who is there.

    Attributes
    ----------
    ports
        Of both sessions, as their pods say.
    own
        What the victim's own pods show.
    foreign
        What strangers show: nothing, what is wrong, what is another session's.
    """

    tenant: Tenant
    bob: Person
    alice: Person
    ports: list[Port]
    outside: list[Stranger]
    inside: Stranger
    own: Credentials = field(repr=False)
    foreign: Credentials = field(repr=False)

    @property
    def strangers(self) -> list[Stranger]:
        """All who have no business there."""
        return [*self.outside, self.inside]

    @property
    def owner(self) -> Stranger:
        """A pod of the victim's own."""
        return Stranger("the session itself", self.tenant, NOTEBOOK[0])

    def of(self, stranger: Stranger) -> list[Port]:
        """Return the ports that are not the stranger's own session's."""
        return self.ports if stranger in self.outside else self.victim

    def asked_by(self, stranger: Stranger) -> list[Port]:
        """Return the ports that a stranger asks for all that there is: a pod of hers not those of hers."""
        return self.attacked if stranger in self.outside else self.victim

    @property
    def attacked(self) -> list[Port]:
        """The victim's ports, and those of which the victim has none: a cache beside a pod."""
        return [*self.victim, *(port for port in self.ports if known(port) is BESIDE)]

    @property
    def victim(self) -> list[Port]:
        """The ports of the session that has everything."""
        return [port for port in self.ports if port.pod.startswith(f"{VICTIM}-")]


@pytest.fixture(scope="package")
def place(facility: demo.Facility, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Both sessions ready, a classic driver at work in bob's notebook, and who listens there."""
    tenant, elsewhere = Tenant.create(facility), Tenant.create(facility)
    folder = tmp_path_factory.mktemp("people")
    bob, alice = (Person.create(tenant, name, folder) for name in ("bob", "alice"))
    with catalogue.profile(sizes=spark.SIZES) as profile:
        try:
            _begin(tenant, profile, bob, alice)
            outside = [_stranger(where, what) for where, what in ((tenant, "the same"), (elsewhere, "another"))]
            for name in (VICTIM, HERS):
                tenant.wait_condition(name, "Ready", seconds=UP_SECONDS)
            with _driver(tenant):
                yield _place(tenant, (bob, alice), outside)
        finally:
            for each in (tenant, elsewhere):
                each.kubectl("delete", "analysissessions", "--all", "--wait=false")
                each.delete()


@contextmanager
def _driver(tenant: Tenant) -> Iterator[None]:
    """Have a classic driver in bob's notebook until the block ends, once it has computed something."""
    argv = ["kubectl", "-n", tenant.namespace, "exec", "-i", *NOTEBOOK, "--", "python", "-c", CLASSIC]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=ENVIRONMENT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        try:
            ready, _, _ = select.select([process.stdout], [], [], spark.PATIENCE)
            assert ready, "the classic driver computes nothing"
            assert process.stdout.readline() == "45\n"
            yield
        finally:
            process.terminate()


def _begin(tenant: Tenant, profile: str, bob: Person, alice: Person) -> None:
    for name, person, spec in ((VICTIM, bob, EVERYTHING), (HERS, alice, ANOTHER)):
        tenant.apply(name, {**spec, "user": person.user, "profile": profile})


def _stranger(tenant: Tenant, namespace: str) -> Stranger:
    images = demo.image_references()
    tenant.kubectl("apply", "-f", "-", stdin=json.dumps(strangers.pod("mallory", images[IMAGE])))
    tenant.kubectl("wait", "pod/mallory", "--for=condition=Ready", "--timeout=120s")
    return Stranger(f"a pod in {namespace} namespace", tenant, "mallory")


def _place(tenant: Tenant, people: tuple[Person, Person], outside: list[Stranger]) -> Place:
    ports = [port for name in (VICTIM, HERS) for port in listening(of_session(tenant.namespace, name))]
    own = Credentials(_tokens(tenant, VICTIM), {"own": _certificate(tenant, VICTIM)})
    worker = next(pod for pod in of_session(tenant.namespace, HERS) if "-worker-" in pod["metadata"]["name"])
    inside = Stranger("another session", tenant, worker["metadata"]["name"])
    return Place(tenant, *people, ports, outside, inside, own, _foreign(tenant))


def _foreign(tenant: Tenant) -> Credentials:
    hers = {f"another session's {name}": token for name, token in _tokens(tenant, HERS).items()}
    now = datetime.now(UTC)
    ended = _made(now - pki.VALID - timedelta(days=1))
    certificates = {"another session's": _certificate(tenant, HERS), "expired": ended, "self-signed": _made(now)}
    return Credentials({"": "", "wrong": "0" * 64, **hers}, certificates)


def _made(now: datetime) -> dict[str, str]:
    """Return a certificate that bears the victim's name, of nobody's CA."""
    made = pki.certificates(VICTIM, ("1" * 64, "2" * 64), now)
    return {"ca": made.ca, "cert": made.certificate, "key": made.key}


def secrets(tenant: Tenant, session: str) -> dict[tuple[str, str], str]:
    """Return the values of a session's Secrets, by Secret and key."""
    found = json.loads(tenant.kubectl("get", "secrets", "-l", f"analysisfacility.io/session={session}", "-o", "json"))
    return {
        (secret["metadata"]["name"].removeprefix(f"{session}-"), key): base64.b64decode(value).decode()
        for secret in found["items"]
        for key, value in secret.get("data", {}).items()
    }


def _tokens(tenant: Tenant, session: str) -> dict[str, str]:
    """Return what are tokens as they are, each once, not those in files."""
    found = {value: " ".join(name) for name, value in secrets(tenant, session).items()}
    return {name: value for value, name in found.items() if re.fullmatch(r"[\w.-]{32,}", value)}


def _certificate(tenant: Tenant, session: str) -> Mapping[str, str]:
    found, files = secrets(tenant, session), {"ca": "ca.crt", "cert": "tls.crt", "key": "tls.key"}
    return {part: found["scheduler", file] for part, file in files.items()}


@pytest.fixture(scope="package")
def unenforced(place: Place) -> Iterator[Place]:
    """As if nothing enforced policies: one more in each of their namespaces lets everything through."""
    tenants = {stranger.tenant.namespace: stranger.tenant for stranger in place.strangers}
    for tenant in tenants.values():
        tenant.kubectl("apply", "-f", "-", stdin=json.dumps(OPEN))
    try:
        for stranger in place.strangers:
            poll(partial(_reaches_all, stranger, place), f"{stranger.name} reaches every port")
        yield place
    finally:
        for tenant in tenants.values():
            tenant.kubectl("delete", "networkpolicy", "everything")


def _reaches_all(stranger: Stranger, place: Place) -> bool:
    ports = [port for port in place.victim if not port.udp and port.number]
    return len(strangers.reached(stranger.reach(ports))) == len(ports)
