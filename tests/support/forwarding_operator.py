"""A build of an operator that forwards everything: whatever a session is made to say gets into what is made for it.

Plans and client are the real ones, and so are the account, its token and its rights. What is left out is all goodwill:
no schema has read the input, no model, no check of the profile.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from af_kube.connection import Connection
from af_operator.cluster import KubernetesCluster
from af_operator.components import shipped
from af_operator.errors import ClusterError
from af_operator.model import POD, Kind
from local_cluster.control_plane import ADMIN, ControlPlane
from tests.support.bounded import token

Body = dict[str, Any]
# Of these no component makes any: the double would.
MORE = (Kind("networking.k8s.io/v1", "Ingress", "ingresses"), Kind("v1", "ServiceAccount", "serviceaccounts"))


class ForwardingOperator:
    """One account of an operator; `plans` has the objects that it makes of a session, by kind."""

    def __init__(self, cluster: KubernetesCluster, plans: Mapping[str, Body]) -> None:
        self._cluster = cluster
        self._plans = plans

    async def forward(self, kind: str, said: Mapping[str, Any], namespace: str) -> str:
        """Make an object with what was said in it, by path; return the words of a refusal, else nothing.

        The API server judges all of it, and stores nothing: the next may have the same name.
        """
        body = forwarded(self._plans[kind], {"metadata/namespace": namespace, **said})
        try:
            await self._cluster.try_out(body)
        except ClusterError as error:
            return str(error)
        return ""


def forwarded(body: Body, said: Mapping[str, Any]) -> Body:
    """Return a copy with these values at these paths; ``None`` leaves out, and ``+`` is the end of a list."""
    found = copy.deepcopy(body)
    for path, value in said.items():
        *way, last = path.split("/")
        place: Any = found
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        if last == "+":
            place.append(value)
        elif value is None:
            place.pop(last, None)
        else:
            place[int(last) if isinstance(place, list) else last] = value
    return found


@asynccontextmanager
async def forwarding(
    plane: ControlPlane, account: tuple[str, str], plans: Mapping[str, Body], folder: Path
) -> AsyncIterator[ForwardingOperator]:
    """Let it loose with the token of a service account, given as namespace and name."""
    config = yaml.safe_load(plane.kubeconfig(ADMIN).read_text())
    config["users"][0]["user"] = {"token": token(plane, *account)}
    file = folder / f"{account[1]}.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(file))
        connection = Connection()
        kinds = {kind for component in shipped() for kind in (*component.KINDS, *component.SHARED)}
        yield ForwardingOperator(KubernetesCluster(connection, [*kinds, *MORE, POD]), plans)
        await connection.close()
