"""What a control plane without nodes has stored, as its administrator sees and changes it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from af_operator.components import shipped
from af_operator.model import Kind
from af_operator.world import NODE, PROFILE, QUOTA, SESSION, World
from local_cluster.control_plane import ADMIN, ControlPlane
from local_cluster.processes import poll
from tests.support import many_sessions
from tests.support.bare_client import BareClient, collection, kind_path

Body = dict[str, Any]
T = TypeVar("T")
_WORLD = World(shipped())
KINDS = sorted({*_WORLD.kinds, NODE, QUOTA})
"""Every kind that the operator watches for its passes."""
WATCHES = Counter([*_WORLD.children, *_WORLD.shared, *(2 * (SESSION, PROFILE)), NODE, QUOTA])
"""How many watches it has of each. Its own two come by kopf in full, and by name from a watch that notices what goes in
a gap. Of volume claims some are a user's and others a session's, by labels of which one watch can follow one."""
PATHS = [kind_path(kind.api_version, kind.plural) for kind in KINDS]
GONE_SECONDS = 60


class Ref(NamedTuple):
    """One object."""

    plural: str
    namespace: str
    name: str


class Site:
    """One control plane, and the namespaces in it that are ours."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.namespaces: list[str] = []

    def open_namespaces(self, *names: str) -> None:
        """Make namespaces."""
        self.create(map(many_sessions.namespace, names))
        self.namespaces += names

    def create(self, bodies: Iterable[Body]) -> None:
        """Create objects."""
        each = list(bodies)
        self._ask(lambda client: client.create_all(each))

    def put(self, body: Body, **status: Any) -> Body:
        """Create an object, and give it a status."""
        made: Body = self.plane.request("POST", collection(body), body)
        path = f"{collection(made)}/{made['metadata']['name']}"
        # The CRD of DaskClusters has no status of its own, as others have it.
        path = path if made["kind"] == "DaskCluster" else f"{path}/status"
        found: Body = self.plane.request("PUT", path, {**made, "status": status})
        return found

    def get(self, kind: Kind, namespace: str, name: str) -> Body:
        """Return one object."""
        path = kind_path(kind.api_version, kind.plural, namespace or None)
        found: Body = self.plane.request("GET", f"{path}/{name}")
        return found

    def delete(self, kind: Kind, ref: Ref) -> None:
        """Delete one object, and what it owns in the background."""
        path = kind_path(kind.api_version, kind.plural, ref.namespace or None)
        self.plane.request("DELETE", f"{path}/{ref.name}", {"propagationPolicy": "Background"})

    def objects(self, *kinds: Kind) -> dict[Ref, Body]:
        """Return what there is of these kinds, or of all that are watched, in our namespaces and outside of any."""
        wanted = kinds or KINDS
        lists = self._ask(lambda client: client.list_all(kind_path(k.api_version, k.plural) for k in wanted))
        found = zip(wanted, lists, strict=True)
        named = {_ref(kind, body): body for kind, bodies in found for body in bodies}
        return {ref: body for ref, body in named.items() if ref.namespace in ("", *self.namespaces)}

    def of(self, session: str, *kinds: Kind) -> dict[Ref, Body]:
        """Return the objects of a session, by the beginning of their names, and the session."""
        found = self.objects(*kinds).items()
        return {ref: body for ref, body in found if ref.name == session or ref.name.startswith(f"{session}-")}

    def empty(self) -> None:
        """Delete our namespaces, with all that is in them, and what is in none."""
        for name in self.namespaces:
            self.plane.request("DELETE", f"/api/v1/namespaces/{name}")
        for kind in (NODE, PROFILE):
            self.plane.request("DELETE", kind_path(kind.api_version, kind.plural))
        left = self.namespaces
        self.namespaces = []
        assert poll(lambda: not self._there(left), GONE_SECONDS), f"namespaces that do not end: {self._there(left)}"

    def _there(self, names: list[str]) -> list[str]:
        found = self.plane.request("GET", "/api/v1/namespaces")["items"]
        return [each["metadata"]["name"] for each in found if each["metadata"]["name"] in names]

    def _ask(self, question: Callable[[BareClient], Awaitable[T]]) -> T:
        async def ask() -> T:
            async with BareClient(self.plane, ADMIN) as client:
                return await question(client)

        return asyncio.run(ask())


def _ref(kind: Kind, body: Body) -> Ref:
    return Ref(kind.plural, body["metadata"].get("namespace", ""), body["metadata"]["name"])


@contextmanager
def opened(plane: ControlPlane, engine: str = "Native") -> Iterator[Site]:
    """Give a site with a catalogue and nothing else; empty it afterwards."""
    site = Site(plane)
    site.create([many_sessions.profile(engine)])
    try:
        yield site
    finally:
        site.empty()
