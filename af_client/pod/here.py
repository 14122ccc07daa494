"""The session that this code runs in, for notebooks and runs.

Pods of a session have no rights in Kubernetes; what can be said from inside is said to the session's own agent,
such as the one in Dask's scheduler, within what the session's spec allows.

>>> from af_client.here import session
>>> session.scale("gpu", 2)      # now, whatever the tasks ask for
>>> session.scale("gpu", None)   # as the tasks ask for again
>>> session.scale("dask/gpu", 2) # where the session has other pools too
>>> session.upload("cuts.py", "tables")  # to all workers, also to those that come later
>>> session.upload_packages()    # those that `%pip install` has installed in home
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3

from af_client.errors import BadInput, Unreachable
from af_client.model_service import reason
from af_client.pod import agents

TIMEOUT = urllib3.Timeout(connect=3.0, read=10.0)
PATIENCE = urllib3.Retry(total=8, connect=8, read=0, redirect=0, other=0, backoff_factor=0.25, backoff_max=2.0)
"""Some fifteen seconds. A network that enforces policies may refuse what a pod asks in its first ones: until then it
does not know the pod's address everywhere."""


@dataclass(frozen=True)
class Here:
    """The session around this process.

    Attributes
    ----------
    environ
        Where its addresses stand.
    """

    environ: Mapping[str, str]

    def scale(self, pool: str, workers: int | None) -> None:
        """Want this many workers of an elastic pool, whatever its tasks ask for; None: as they ask for.

        They come and go within `workers.min` and `workers.max` of the session's spec, and go without losing results.

        Parameters
        ----------
        pool
            ``gpu``, or ``dask/gpu`` where more than one of the session's components has pools.

        Raises
        ------
        BadInput
            There is no such elastic pool, or this is no session with pools.
        Unreachable
            The agent does not answer.
        """
        asked, _, name = pool.rpartition("/")
        component, agent = self._agent(asked, name)
        _tell(component, agent, {"pool": name, "workers": workers})

    def upload(self, *paths: str | Path) -> None:
        """Send files to all workers, of Dask and of Spark, also to those that come later.

        Tasks open them by the path that they have from here, and import what is a module or a package. A file that has
        changed is sent anew by the same line.

        Parameters
        ----------
        paths
            Files, directories with all that is in them, and wheels, which are installed; 64 MiB each at most.

        Raises
        ------
        BadInput
            There is no such file, it is too large, or the session has no workers.
        """
        from af_client.pod import sending  # noqa: PLC0415 - of Dask, which takes a second to import

        sending.upload(self.environ, [Path(path) for path in paths])

    def upload_packages(self) -> None:
        """Send the packages that `%pip install` has installed in home to all workers, as `upload` does.

        Raises
        ------
        BadInput
            There are none, they are too large, or the session has no workers.
        """
        from af_client.pod import sending  # noqa: PLC0415 - as above

        sending.upload_packages(self.environ)

    def _agent(self, asked: str, pool: str) -> tuple[str, agents.Agent]:
        found = agents.of(self.environ)
        if not found:
            raise BadInput("this is not inside a session with pools: `af scale NAME POOL N` changes one from outside")
        if not asked and len(found) > 1:
            listed = " or ".join(f"{each}/{pool}" for each in found)
            raise BadInput(f"this session has several engines, so whose pool {pool!r} is must be said: write {listed}")
        if asked and asked not in found:
            raise BadInput(f"this session has no {asked!r} with elastic pools; it has: {', '.join(found)}")
        component = asked or next(iter(found))
        return component, found[component]


def _tell(component: str, agent: agents.Agent, wish: Mapping[str, object]) -> None:
    headers = {"Content-Type": "application/json"}
    if agent.token:
        headers["Authorization"] = f"Bearer {agent.token}"
    try:
        # A pool manager knows nothing of the environment's proxies: the agent is in the cluster.
        with urllib3.PoolManager(retries=PATIENCE, timeout=TIMEOUT) as connections:
            answer = connections.request("POST", agent.url, body=json.dumps(wish).encode(), headers=headers)
    except urllib3.exceptions.HTTPError as error:
        raise Unreachable(f"the agent of {component} at {agent.url} does not answer: {reason(error)}") from error
    if answer.status >= 400:
        raise BadInput(_message(component, answer))


def _message(component: str, answer: urllib3.BaseHTTPResponse) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"the agent of {component} answers {answer.status}: it was made by an older operator"


session = Here(os.environ)
