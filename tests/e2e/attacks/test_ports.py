"""Every port of a session, as its pods list them, against strangers: by the network, and by what is asked there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from af_operator import names
from af_operator.components.xcache.secret import KEY_FILE
from local_cluster import facility as demo
from local_cluster.settings import CHECKOUT
from tests.e2e.attacks.conftest import HERS, VICTIM, Place, secrets
from tests.support import walls
from tests.support.known_ports import PORTS, by_title, known
from tests.support.ports import Port, listening, pods
from tests.support.strangers import Credentials, Found, Stranger, gained, reached
from tests.support.tenant import kubectl

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]  # the two sessions are large

PAGE = CHECKOUT / "docs/explanation/security.md"
NODE = {("api", 443), ("api", 6443), ("kubelet", 10250)}
FILE = "/root://origin.af-storage.svc.cluster.local:1094//data/uproot-Zmumu.root"
ASK_BACK = {"spark", "xrootd"}
"""Whose probes show no secret, and see only that one is asked for; what comes to who has it the tests of both try."""
BEGIN, END = "<!-- written by tests/e2e/attacks/test_ports.py -->", "<!-- until here -->"


def asked(place: Place, strangers: Sequence[Stranger], shown: Credentials) -> list[Found]:
    """Return what comes back to all strangers, side by side."""
    with ThreadPoolExecutor() as threads:
        answers = threads.map(lambda stranger: stranger.ask(place.asked_by(stranger), shown), strangers)
        return [found for several in answers for found in several]


def knocked(place: Place, strangers: Sequence[Stranger]) -> list[Found]:
    """Return what all strangers reach."""
    with ThreadPoolExecutor() as threads:
        answers = threads.map(lambda stranger: stranger.reach(place.of(stranger)), strangers)
        return [found for several in answers for found in several]


@pytest.fixture(scope="package")
def enforced(place: Place) -> list[Found]:
    """What strangers reach with the policies that there are."""
    return knocked(place, place.strangers)


@pytest.fixture(scope="package")
def within(place: Place) -> list[Found]:
    """What the session's own pod reaches with them."""
    return knocked(place, [place.owner])


@pytest.fixture(scope="package")
def outward(place: Place) -> dict[str, set[tuple[str, int]]]:
    """What each reaches of the cluster's own, as (whose, port)."""
    ports = [*listening(pods(demo.SYSTEM_NAMESPACE, "--selector=pod-template-hash")), *of_the_cluster()]
    everybody = (*place.strangers, place.owner)
    with ThreadPoolExecutor() as threads:
        answers = threads.map(lambda stranger: {known_as(f) for f in reached(stranger.reach(ports))}, everybody)
        return dict(zip((stranger.name for stranger in everybody), answers, strict=True))


def known_as(found: Found) -> tuple[str, int]:
    """Return whose port it is, and which."""
    return found.port.component, found.port.at


def of_the_cluster() -> Iterator[Port]:
    """Yield the ports of the API server and the kubelet."""
    node = json.loads(kubectl("get", "nodes", "-o", "json"))["items"][0]["status"]
    address = next(each["address"] for each in node["addresses"] if each["type"] == "InternalIP")
    service = json.loads(kubectl("get", "service", "kubernetes", "-n", "default", "-o", "json"))["spec"]["clusterIP"]
    kubelet = node["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    for name, ip, port in (("api", service, 443), ("api", address, 6443), ("kubelet", address, kubelet)):
        yield Port("node", name, ip, port, udp=False)


@pytest.fixture(scope="package")
def answers(enforced: list[Found], within: list[Found], outward: object, unenforced: Place) -> list[Found]:
    """What strangers get where nothing enforces policies; asked after it was looked at what those do."""
    return asked(unenforced, unenforced.strangers, unenforced.foreign)


@pytest.fixture(scope="package")
def owners(answers: list[Found], unenforced: Place) -> list[Found]:
    """What the session's own pod gets, with its own credentials."""
    return asked(unenforced, [unenforced.owner], unenforced.own)


def test_every_port_is_known(place: Place) -> None:
    new = sorted({f"{port.component} {port.at}{'/udp' if port.udp else ''}" for port in place.ports if not known(port)})
    assert not new, f"a new port: {', '.join(new)}: say in tests/support/known_ports.py what it is for"


def test_everything_that_is_known_listens(place: Place) -> None:
    """So nothing is left out of what follows; of Spark's workers each is there, and its executor."""
    found = by_title(place.attacked)
    assert set(found) == {use.title for use in PORTS.values()}
    assert len(found["Spark workers and executors"]) == 2


def test_the_network_lets_no_stranger_reach_a_port(enforced: list[Found]) -> None:
    assert enforced
    through = reached(enforced)
    assert not through, "\n".join(map(str, through))


def test_the_network_lets_the_session_reach_its_own_ports(within: list[Found], place: Place) -> None:
    through = {found.port for found in reached(within)}
    shut = [port for port in place.victim if not port.udp and port.number and port not in through]
    assert not shut


def test_sessions_and_strangers_reach_nothing_of_the_clusters_own(
    outward: dict[str, set[tuple[str, int]]], place: Place
) -> None:
    """But the page of the Hub, which is for everybody, and for notebooks the Hub that they ask who somebody is."""
    page, hub = ("proxy", 8000), ("hub", 8081)
    assert outward[place.inside.name] - {page} == set()
    assert outward[place.owner.name] - {page} == {hub}
    for stranger in place.outside:
        assert outward[stranger.name] == NODE | {page}, "no policy of ours is about such pods, but about whom they ask"


def test_the_sessions_own_pods_are_answered_at_each_port(owners: list[Found], place: Place) -> None:
    """So each probe is one that can succeed, and a port that refuses strangers is not simply dead."""
    for title, ports in by_title(place.victim).items():
        said = [found for found in owners if found.port in ports and found.probe == probe(ports[0])]
        let_in = [found for found in said if found.gained or found.probe in ASK_BACK]
        assert let_in, f"{title} does not let its own session in:\n" + "\n".join(map(str, said[:20]))


def test_each_port_answers_each_stranger(answers: list[Found], place: Place) -> None:
    """So what follows is about refusals, and not about a network that is slow."""
    heard = {(found.stranger, found.port) for found in answers if found.probe == probe(found.port) and found.heard}
    asked = {(each.name, port) for each in place.strangers for port in place.asked_by(each) if not port.udp}
    assert asked == heard, asked - heard


def probe(port: Port) -> str:
    """Return the probe that a port must understand."""
    use = known(port)
    assert use
    return use.probe


def test_without_the_network_nothing_is_given_to_strangers(answers: list[Found]) -> None:
    through = [found for found in gained(answers) if not walls.held_by_network(found)]
    told = "\n".join(map(str, through[:60]))
    assert not through, f"{len(through)} answers that are no refusals:\n{told}"


def test_a_cache_wants_the_key_of_its_own_session(unenforced: Place) -> None:
    """Of its own Deployment, and beside a pod: the other session's opens nothing, nor does none."""
    caches = {port.pod.partition("-")[0]: port for port in unenforced.ports if port.number == names.XCACHE_PORT}
    keys = {session: secrets(unenforced.tenant, session)["xcache", KEY_FILE] for session in (VICTIM, HERS)}
    assert {"read", "counters", "ping"} <= set(unenforced.owner.read(caches[VICTIM], keys[VICTIM], FILE))
    assert {"read", "counters", "ping"} <= set(unenforced.inside.read(caches[HERS], keys[HERS], FILE))
    tries = [(stranger, VICTIM, key) for stranger in unenforced.strangers for key in ("", keys[HERS])]
    tries += [(stranger, HERS, key) for stranger in unenforced.outside for key in ("", keys[VICTIM])]
    for stranger, whose, key in tries:
        assert stranger.read(caches[whose], key, FILE) == [], f"{stranger.name} at the cache of {whose}"


def test_the_documentation_says_what_holds(
    answers: list[Found], enforced: list[Found], place: Place, update_golden: bool
) -> None:
    table = walls.table(by_title(place.attacked), enforced, answers)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if update_golden:
        Path(PAGE).write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}")
    assert table in PAGE.read_text(), f"{PAGE}: what holds has changed; --update-golden writes it\n{table}"
