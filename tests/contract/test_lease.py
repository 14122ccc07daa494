"""Leader election against the real API server: one leader, a hand-over, an expiry, and the fence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from af_kube import credentials
from af_kube.connection import Connection
from af_operator.errors import Unavailable
from af_operator.lease import Lease
from af_operator.settings import Settings

pytestmark = pytest.mark.cluster
SECONDS = 5.0


class Candidate:
    """A process that wants to lead."""

    def __init__(self, api: Connection, namespace: str, name: str, identity: str) -> None:
        settings = Settings(namespace=namespace, lease_name=name, identity=identity, lease_seconds=SECONDS)
        self.lease = Lease(api, settings)
        self.leading = asyncio.Event()
        self.task = asyncio.create_task(self.lease.lead(self._lead))

    async def _lead(self) -> None:
        self.leading.set()

    async def leads_within(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await self.leading.wait()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def api(kubeconfig: str) -> AsyncIterator[Connection]:
    found = Connection(partial(credentials.kubeconfig, kubeconfig))
    yield found
    await found.close()


async def test_one_leads_and_hands_over_at_once_when_it_stops(api: Connection, namespace: str) -> None:
    first = Candidate(api, namespace, "handover", "first")
    await first.leads_within(2)
    second = Candidate(api, namespace, "handover", "second")
    await asyncio.sleep(SECONDS + 1)  # longer than the Lease: it is renewed
    assert not second.leading.is_set()
    with pytest.raises(Unavailable):
        second.lease.fence()
    first.lease.fence()
    await first.stop()
    await first.lease.release()
    with pytest.raises(Unavailable):
        first.lease.fence()
    await second.leads_within(3)
    await second.stop()


async def test_a_leader_that_died_is_followed_when_its_lease_expires(api: Connection, namespace: str) -> None:
    dead = Candidate(api, namespace, "expiry", "dead")
    await dead.leads_within(2)
    await dead.stop()
    heir = Candidate(api, namespace, "expiry", "heir")
    await heir.leads_within(SECONDS + 5)
    with pytest.raises(Unavailable, match="not ours"):
        dead.lease.fence()
    await heir.stop()


async def test_a_leader_that_cannot_renew_steps_down_before_its_lease_is_free(api: Connection, namespace: str) -> None:
    leader = Candidate(api, namespace, "cut-off", "leader")
    await leader.leads_within(2)
    api._credentials.server = "https://127.0.0.1:1"
    async with asyncio.timeout(SECONDS + 2):
        await leader.task
    await leader.lease.release()  # raises nothing, though it cannot be given up
