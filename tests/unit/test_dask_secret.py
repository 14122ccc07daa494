"""What a session's Dask knows its own by: made once, given to whoever takes part, and to none that runs without."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from af_operator import names, plan
from af_operator.components import shipped
from af_operator.components.dask import programs
from af_operator.model import SECRET, Body, Plan, PodPatch
from tests.support.objects import DASK, container, of_component, profile, session, world
from tests.support.objects import pod as pod_of

NOW = datetime(2026, 1, 1, 10, 10, tzinfo=UTC)
ENGINES = ("Native", "DaskKubernetes")
NAME = "zmumu-scheduler"
PROGRAMS = ("scheduler", "worker", "run", "notebook")
KEYS = {"ca.crt", "tls.crt", "tls.key", "token"}
SPECS: dict[str, dict[str, Any]] = {
    "run": {"run": {"command": ["python", "-V"]}, "dask": DASK},
    "notebook": {"notebook": {}, "dask": DASK},
}
AGENT_BEFORE = Path(__file__).parents[1] / "e2e" / "upgrade" / "agent.txt"
TCP, TLS = (f"{scheme}://{NAME}.physics.svc:8786" for scheme in ("tcp", "tls"))


def planned(*children: Body, kind: str = "run", engine: str = "Native", nonce: str = "1" * 64, **more: Any) -> Plan:
    asked = session(**SPECS[kind], **more)
    observed = world(*children, nonce=nonce)
    # Without a home, which is there before a notebook is.
    return plan.build(shipped(), asked, profile(dask={"engine": engine}, storage=None), observed, NOW)


def live(found: Plan) -> dict[str, dict[str, Any]]:
    """Return what is to be made as the API server would have it, by kind and name."""
    made = {}
    for manifest in found.desired:
        body = json.loads(json.dumps(manifest.body))
        body["metadata"] |= {"uid": f"uid-of-{body['metadata']['name']}", "creationTimestamp": "2026-01-01T10:05:00Z"}
        body["metadata"]["managedFields"] = [{"manager": names.MANAGER, "operation": "Update"}]
        made[f"{body['kind']} {body['metadata']['name']}"] = body
    return made


def of_the_version_before(monkeypatch: pytest.MonkeyPatch, **asked: Any) -> dict[str, dict[str, Any]]:
    """Return what is made where nothing speaks TLS yet, as that version made it."""
    with monkeypatch.context() as patch:
        patch.setattr("af_operator.components.dask.secret.is_encrypted", lambda observed: False)
        found = live(planned(**asked))
    found["ConfigMap zmumu-dask-agent"]["data"] = {"scheduler_agent.py": AGENT_BEFORE.read_text()}
    return found


def secret_of(found: Plan) -> dict[str, str] | None:
    bodies = (m.body for m in found.desired if m.ref == SECRET.ref(NAME))
    data = next((body["data"] for body in bodies), None)
    return data and {key: base64.b64decode(value).decode() for key, value in data.items()}


def containers(bodies: Iterator[Body] | list[Body]) -> Iterator[Body]:
    """Yield the containers in which Dask runs or is used."""
    for body in bodies:
        if isinstance(body, dict):
            yield from (
                c for c in body.get("containers", ()) if c["name"] in ("scheduler", "worker", "run", "notebook")
            )
            yield from containers(list(body.values()))
        elif isinstance(body, list):
            yield from containers(body)


def env(body: Body) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in body.get("env", ())}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", SPECS)
def test_whoever_takes_part_has_it_as_files_and_nobody_as_values(kind: str, engine: str) -> None:
    found = planned(kind=kind, engine=engine)
    made = secret_of(found)
    assert made
    assert set(made) == KEYS
    assert (len(made["token"]), made["tls.key"].splitlines()[0]) == (64, "-----BEGIN PRIVATE KEY-----")
    bodies = [json.loads(json.dumps(m.body)) for m in found.desired if m.ref != SECRET.ref(NAME)]
    for value in made.values():
        assert value not in json.dumps(bodies)
    # A DaskCluster's default group is empty and stays so.
    able = [c for c in containers(bodies) if c.get("args") != ["dask", "worker"]]
    assert {c["name"] for c in able} == {"scheduler", "worker", kind}
    for each in able:
        assert {"name": "dask", "mountPath": "/af/dask", "readOnly": True} in each["volumeMounts"], each["name"]
        assert env(each)["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "true"
        assert env(each).get("DASK_SCHEDULER_ADDRESS", TLS) == TLS


def test_it_is_made_once_and_kept() -> None:
    first = planned()
    made = secret_of(first)
    there = live(first)
    later = planned(*there.values(), nonce="2" * 64)
    assert secret_of(later) == made
    assert not later.apply
    assert secret_of(planned(nonce="2" * 64)) != made, "another pass would make another"


def test_it_is_valid_from_now_on_for_longer_than_any_session() -> None:
    made = secret_of(planned())
    assert made
    shown = x509.load_pem_x509_certificate(made["tls.crt"].encode())
    assert shown.not_valid_before_utc < NOW < shown.not_valid_after_utc
    assert (shown.not_valid_after_utc - NOW).days > 3 * 365


@pytest.mark.parametrize("key", sorted(KEYS))
def test_one_that_misses_a_part_is_made_anew_as_a_whole(key: str) -> None:
    there = live(planned())
    before = secret_of(planned())
    del there[f"Secret {NAME}"]["data"][key]
    after = secret_of(planned(*there.values(), nonce="2" * 64))
    assert before
    assert after
    assert all(before[each] != after[each] for each in KEYS)


def test_one_of_somebody_else_is_not_taken() -> None:
    there = live(planned())
    before = secret_of(planned())
    for field in ("ownerReferences", "managedFields"):
        foreign = copy.deepcopy(there[f"Secret {NAME}"])
        foreign["metadata"][field] = []
        after = secret_of(planned(foreign, nonce="2" * 64))
        assert before
        assert after
        assert after["token"] != before["token"]


def test_it_goes_with_a_suspension_and_another_comes_after_it() -> None:
    there = live(planned())
    suspended = planned(*there.values(), suspend=True)
    assert NAME in {b["metadata"]["name"] for b in suspended.delete if b["kind"] == "Secret"}
    gone = {key: body for key, body in there.items() if body not in suspended.delete}
    assert f"Secret {NAME}" not in gone
    assert secret_of(planned(*gone.values(), nonce="2" * 64)) != secret_of(planned())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", SPECS)
def test_a_session_of_the_version_before_stays_as_it_was_begun(
    kind: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = of_the_version_before(monkeypatch, kind=kind, engine=engine)
    found = planned(*there.values(), kind=kind, engine=engine)
    assert secret_of(found) is None
    assert [(m.ref.kind, m.ref.name) for m in found.apply] == []
    assert not found.delete
    health = found.health["dask"]
    assert TLS not in json.dumps(dict(health.endpoints))


WHO_IS_LEFT = {
    "notebook": ["StatefulSet zmumu-notebook", "Deployment zmumu-scheduler", "Pod a worker"],
    "run": ["Deployment zmumu-scheduler", "Pod a worker", "Pod of the program"],
}


@pytest.mark.parametrize(("kind", "left"), [(kind, each) for kind, all_ in WHO_IS_LEFT.items() for each in all_])
def test_who_comes_later_is_understood_by_whoever_is_left_of_the_version_before(
    kind: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = of_the_version_before(monkeypatch, kind=kind)
    workers = [body for key, body in there.items() if key.startswith("Pod ")]
    program = pod_of("zmumu-run-x", of_component("run"), container("run", running={}))
    if kind == "run":
        program["spec"] = there["Job zmumu-run"]["spec"]["template"]["spec"]
    rest = {"Pod a worker": workers[0], "Pod of the program": program}
    found = planned(there.get(left) or rest[left], kind=kind)
    assert secret_of(found) is None
    bodies = [json.loads(json.dumps(m.body)) for m in found.desired]
    addresses = {env(c)["DASK_SCHEDULER_ADDRESS"] for c in containers(bodies) if "DASK_SCHEDULER_ADDRESS" in env(c)}
    assert addresses <= {TCP}
    assert '"mountPath": "/af/dask"' not in json.dumps(bodies)
    scheduler = next((c for c in containers(bodies) if c["name"] == "scheduler"), None)
    assert scheduler is None or programs.GUARD_FILE not in json.dumps(scheduler["args"])


@pytest.mark.parametrize("kind", SPECS)
def test_a_suspension_ends_what_was_without_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = of_the_version_before(monkeypatch, kind=kind)
    stopped = planned(*there.values(), kind=kind, suspend=True)
    left = {key: body for key, body in (there | live(stopped)).items() if body not in stopped.delete}
    assert not {key for key in left if key.startswith(("Pod ", "Deployment zmumu-scheduler"))}
    assert secret_of(planned(*left.values(), kind=kind)) is not None


@pytest.mark.parametrize(
    ("phase", "going"), [("Succeeded", False), ("Failed", False), ("Running", True)], ids=["done", "failed", "going"]
)
def test_who_has_ended_counts_no_more(phase: str, going: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = next(b for k, b in of_the_version_before(monkeypatch).items() if k.startswith("Pod "))
    worker["status"] = {"phase": phase}
    worker["metadata"] |= {"deletionTimestamp": "2026-01-01T10:09:00Z"} if going else {}
    assert secret_of(planned(worker)) is not None


def test_a_worker_that_another_operator_makes_has_our_address_and_not_its_own() -> None:
    patch = programs.worker_patch(session(dask=DASK), world())
    assert patch != PodPatch()
    assert env({"env": patch.env})["DASK_SCHEDULER_ADDRESS"] == TLS


def test_its_agent_is_asked_with_the_token() -> None:
    first = planned()
    there = live(first)
    scheduler = pod_of("s", names.labels(session(), "dask") | {names.ROLE: "scheduler"}, container("s", running={}))
    made = secret_of(first)
    asked = planned(*there.values(), scheduler).questions["dask"]
    assert made
    assert asked.token == made["token"]
    assert asked.token not in repr(asked)
