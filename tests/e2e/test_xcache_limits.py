"""A cache takes no run with it: it holds no more than it may, and where it is away reads wait for it, and go on.

It does so for its own readers, and for nobody else.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from af_operator.components._shared import pod_spec
from local_cluster import facility as demo
from local_cluster.settings import CHECKOUT
from tests.e2e.test_xcache import host, origin
from tests.support.friends import befriend
from tests.support.people import af
from tests.support.tenant import ENVIRONMENT, HEADLESS, Tenant, poll

__all__ = ["origin"]

PROGRAM = (CHECKOUT / "tests/support/programs/overfull.py").read_text()
READ = 3 * 150
"""MiB that the program reads in one round."""
ASKS = (CHECKOUT / "tests/support/programs/asks_a_cache.py").read_text()
STRANGER = {"app": "stranger"}
SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
CACHE = "analysisfacility.io/component=xcache"
STOP_XROOTD = """
import os, signal
for process in filter(str.isdigit, os.listdir('/proc')):
    if open(f'/proc/{process}/comm').read() == 'xrootd\\n':
        os.kill(int(process), signal.SIGSTOP)
"""

pytestmark = pytest.mark.timeout(420)


@contextmanager
def reading(tenant: Tenant, profile: str, cache: dict[str, str], folder: Path) -> Iterator[dict[str, Any]]:
    """Run the program while the block does; what it left is in the answer after that."""
    files = {"main.py": PROGRAM}
    spec = {"profile": profile, "xcache": cache, "env": [{"name": "ORIGIN", "value": f"root://{host(tenant)}:1094"}]}
    run = {"command": ["python", "main.py"], "source": {"files": files}}
    tenant.apply("reads", {**HEADLESS, **spec, "run": run})
    poll(lambda: rounds(tenant) >= 1, "every file was read once", 240)
    found: dict[str, Any] = {}
    yield found
    tenant.kubectl("exec", "deployment/origin", "--", "touch", "/results/stop")
    tenant.wait_condition("reads", "RunComplete", reason="Succeeded", seconds=120)
    assert tenant.session("reads")["status"]["run"]["attempts"] == 1
    assert af("results", "reads", "-n", tenant.namespace, "-o", str(folder), environment=ENVIRONMENT).returncode == 0
    found |= json.loads((folder / "reads.json").read_text())


def rounds(tenant: Tenant) -> int:
    """Return how often all files were read."""
    return tenant.kubectl("logs", "job/reads-run", "-c", "run", check=False).count("long-2,")


def kept(tenant: Tenant, pod: str) -> int:
    """Return how many MiB a cache has on its disk."""
    found = re.match(r"\d+", tenant.kubectl("exec", pod, "-c", "xcache", "--", "du", "-sm", "/cache"))
    assert found
    return int(found[0])


def test_a_sidecar_holds_no_more_than_its_size(tenant: Tenant, origin: str, tmp_path: Path) -> None:
    size = 100
    with reading(tenant, origin, {"placement": "Sidecar", "size": f"{size}Mi"}, tmp_path):
        pod = tenant.kubectl("get", "pods", "-l", "analysisfacility.io/component=run", "-o", "name").strip()
        before, held = rounds(tenant), [kept(tenant, pod)]
        while rounds(tenant) < before + 2:
            held.append(kept(tenant, pod))
        answers_nobody_without_the_key(tenant, tenant.kubectl("get", pod, "-o", "jsonpath={.status.podIP}"))
    print(f"{READ} MiB read again and again, kept {held} MiB of {size}")
    assert size / 2 < max(held) <= size + 4, "directories and lists of blocks are the rest"


def test_a_cache_that_dies_or_hangs_holds_its_readers_up_and_no_more(
    tenant: Tenant, origin: str, tmp_path: Path
) -> None:
    with reading(tenant, origin, {"placement": "Session", "size": "1Gi"}, tmp_path) as found:
        first = tenant.kubectl("get", "pods", "-l", CACHE, "-o", "name").strip()
        assert kept(tenant, first) >= READ, "all is in the cache"
        answers_nobody_without_the_key(tenant, "reads-xcache")
        tenant.kubectl("delete", first, "--wait=false")
        poll(lambda: first not in tenant.kubectl("get", "pods", "-l", CACHE, "-o", "name"), "the pod is gone")
        goes_on(tenant, "with a cache made anew")
        tenant.kubectl("exec", "deployment/reads-xcache", "-c", "xcache", "--", "python3", "-c", STOP_XROOTD)
        told = tenant.wait_condition("reads", "XCacheReady", "False", reason="CacheSilent", seconds=90)
        assert "does not answer since" in told["message"]
        tenant.wait_condition("reads", "XCacheReady", seconds=120)
        goes_on(tenant, "with a cache started again")
    print(f"longest read {found['longest']:.0f} s")


def answers_nobody_without_the_key(tenant: Tenant, cache: str) -> None:
    """Ask as a pod of the same namespace which no NetworkPolicy keeps away: by the session's key alone it is let in."""
    befriend(tenant, STRANGER)
    documents = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger", "labels": STRANGER}}
    image = demo.image_references()["analysis"]
    program = pod_spec.container("stranger", image, ["sleep", "600"], resources=SMALL)
    spec = pod_spec.pod([program], [], pod_spec.Place()) | {"terminationGracePeriodSeconds": 1}
    tenant.kubectl("apply", "--filename=-", stdin=json.dumps(documents | {"spec": spec}))
    tenant.kubectl("wait", "pod/stranger", "--for=condition=Ready", "--timeout=60s")
    data = json.loads(tenant.kubectl("get", "secret", "reads-xcache", "-o", "json"))["data"]
    own = base64.b64decode(data["keytab.grp"]).decode()
    other = re.sub("k:.*", f"k:{secrets.token_hex(32)}", own)
    url, path = f"root://{cache}:1096/", f"/root://{host(tenant)}:1094//results/long-0"
    assert asked(tenant, "", url, path) == [], "without a key"
    assert asked(tenant, other, url, path) == [], "with that of another session"
    assert {"read", "counters", "ping"} <= set(asked(tenant, own, url, path)), "with the session's own"
    tenant.kubectl("delete", "pod/stranger", "--now", "--wait=false")


def asked(tenant: Tenant, key: str, *arguments: str) -> list[str]:
    """Return what a cache has answered to who has a key."""
    shell = (
        'umask 077; cat > /tmp/key; XRD_CONNECTIONRETRY=2 XRD_CONNECTIONWINDOW=10 XrdSecSSSKT=/tmp/key python -c "$@"'
    )
    argv = ("exec", "-i", "stranger", "--", "sh", "-c", shell, "sh", ASKS, *arguments)
    found: list[str] = json.loads(tenant.kubectl(*argv, stdin=key))
    return found


def goes_on(tenant: Tenant, how: str) -> None:
    """Wait until whatever was open at the cache is read to its end, and opened once more."""
    before = rounds(tenant)
    begin = time.monotonic()
    poll(lambda: rounds(tenant) >= before + 2, f"reads go on {how}", 150)
    print(f"two rounds {how} took {time.monotonic() - begin:.0f} s")
