"""The secrets of a session are in no log, no Event, no status, no object and no command line: looked for everywhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local_cluster import facility as demo
from tests.e2e.attacks.conftest import HERS, VICTIM, Place, secrets
from tests.support import canaries
from tests.support.canaries import Canary
from tests.support.tenant import Body, audit_log, kubectl

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]  # the two sessions are large

ENVIRONMENT = {
    "JUPYTER_TOKEN": {"notebook"},
    # The same token, by which the Hub knows a server that it adopts.
    "JUPYTERHUB_API_TOKEN": {"notebook"},
    "AF_INFERENCE_TOKEN": {"notebook", "dask", "spark"},
    "AF_SPARK_TOKEN": {"notebook", "dask", "spark"},
    "AF_SPARK_PAGE_KEY": {"spark"},
    "SPARK_REMOTE": {"notebook", "dask"},
    "SPARK_CONNECT_AUTHENTICATE_TOKEN": {"spark"},
    "_SPARK_AUTH_SECRET": {"spark"},
}
"""Variables that hold a secret, and the components in whose pods: of the session itself, says security.md."""
PLACES = (demo.SYSTEM_NAMESPACE, demo.STORAGE_NAMESPACE)
COMMANDS = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
ENVIRONMENTS = "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; true"


@pytest.fixture(scope="package")
def birds(place: Place) -> list[Canary]:
    """Tokens and keys of the victim's Secrets; in a test's failure only their names are told."""
    found = canaries.of(secrets(place.tenant, VICTIM))
    assert {bird.name.split()[0] for bird in found} >= {"notebook", "scheduler", "spark", "inference", "xcache"}
    return found


@pytest.fixture(scope="package")
def pods(place: Place) -> list[Body]:
    """Every pod of the namespace and of the operators', the Hub's and the origin's."""
    # The operators' and the Hub's are Deployments'; others there come and go.
    spaces = [(place.tenant.namespace,), *((space, "--selector=pod-template-hash") for space in PLACES)]
    found = [json.loads(kubectl("get", "pods", "-o", "json", "-n", *space))["items"] for space in spaces]
    return [pod for several in found for pod in several if pod["status"]["phase"] == "Running"]


def containers(pods: list[Body]) -> Iterator[tuple[Body, str]]:
    """Yield every container that runs."""
    for pod in pods:
        status = pod["status"]
        for each in (*status["containerStatuses"], *status.get("initContainerStatuses", ())):
            if "running" in each["state"]:
                yield pod, each["name"]


def inside(pods: list[Body], *command: str) -> dict[tuple[str, str, str], str]:
    """Run a command in each container; return what it prints, by component, pod and container."""

    def run(one: tuple[Body, str]) -> tuple[tuple[str, str, str], str]:
        meta = one[0]["metadata"]
        labels = meta.get("labels", {})
        component = labels.get("analysisfacility.io/component", "")
        if labels.get("analysisfacility.io/session") != VICTIM:
            component = f"foreign {component}"
        where = ("-n", meta["namespace"], "exec", meta["name"], f"--container={one[1]}", "--")
        return (component, meta["name"], one[1]), kubectl(*where, *command)

    with ThreadPoolExecutor(4) as threads:
        return dict(threads.map(run, containers(pods)))


def test_a_secret_is_found_wherever_it_is_written(birds: list[Canary], place: Place) -> None:
    """The search itself: in the one place where they are, the Secrets as the API server gives them."""
    text = place.tenant.kubectl("get", "secrets", "-l", f"analysisfacility.io/session={VICTIM}", "-o", "json")
    assert canaries.found(birds, text) == sorted({bird.name for bird in birds})
    assert canaries.found(birds, json.dumps(secrets(place.tenant, HERS)["notebook", "JUPYTER_TOKEN"])) == []


def test_no_log_tells_one(birds: list[Canary], pods: list[Body]) -> None:
    told = {}
    for pod, name in containers(pods):
        where = ("-n", pod["metadata"]["namespace"], "logs", pod["metadata"]["name"], f"--container={name}")
        if found := canaries.found(birds, kubectl(*where)):
            told[pod["metadata"]["name"], name] = found
    assert not told


def test_no_object_but_the_secrets_has_one(birds: list[Canary]) -> None:
    """Events, status, ConfigMaps, pods as they are written, whatever kind there is in the cluster."""
    kinds = kubectl("api-resources", "--verbs=list", "--output=name").split()
    told = {}
    for kind in sorted(set(kinds) - {"secrets"}):
        if found := canaries.found(birds, kubectl("get", kind, "--all-namespaces", "-o", "json")):
            told[kind] = found
    assert len(kinds) > 40
    assert not told


def test_the_audit_log_has_none(birds: list[Canary]) -> None:
    """Whoever asks puts none into a URL, and no object's text is kept there."""
    texts = "\n".join(text for bird in birds for text in bird.texts)
    # By grep, for it is large; on stdin, for else they were in a command line.
    argv = ["grep", "--count", "--fixed-strings", "--file=-", str(audit_log())]
    done = subprocess.run(argv, input=texts, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (1, "0")


def test_no_command_line_has_one(birds: list[Canary], pods: list[Body]) -> None:
    lines = inside(pods, "sh", "-c", COMMANDS)
    lines |= {("node", path.parent.name, ""): _read(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
    assert not {where: found for where, text in lines.items() if (found := canaries.found(birds, text))}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended
        return ""


def test_variables_have_them_where_it_is_said(birds: list[Canary], pods: list[Body]) -> None:
    """And nowhere else; what Dask's programs, and a cache's readers, are known by is in no variable at all."""
    held, files = set(), [bird for bird in birds if bird.name.startswith(("scheduler ", "xcache "))]
    for (component, pod, container), text in inside(pods, "sh", "-c", ENVIRONMENTS).items():
        assert canaries.found(files, text) == [], (pod, container)
        told = [line.partition("=")[0] for line in text.splitlines() if canaries.found(birds, line)]
        held |= {(variable, component) for variable in told}
    assert held == {(variable, each) for variable, components in ENVIRONMENT.items() for each in components}
