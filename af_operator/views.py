"""What is known of others than the API server when a pass begins: JupyterHub, and a session's Dask scheduler.

A pass never waits for either: it gets these values, and leaves wishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple


class HubServer(NamedTuple):
    """One server of one user, as JupyterHub names them; an empty `server` is the user's default one."""

    user: str
    server: str


class HubRefusal(NamedTuple):
    """Why JupyterHub does not show a session now, in words for people."""

    reason: str
    message: str


@dataclass(frozen=True)
class HubView:
    """What is known of JupyterHub when a pass begins.

    Attributes
    ----------
    api_url
        URL of its API, as pods reach it: ``http://hub.af-system.svc.cluster.local:8081/hub/api``.
    base_url
        Path under which it is shown: ``/``.
    servers
        Every server that it counts as started or starting; None while it does not answer.
    refused
        Servers that it would not start, or that have just stopped: nobody asks for them for a while.
    trouble
        Why `servers` is None, in words for people.
    """

    api_url: str
    base_url: str = "/"
    servers: frozenset[HubServer] | None = None
    refused: Mapping[HubServer, HubRefusal] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class Registration:
    """How a session stands with JupyterHub; becomes the condition ``HubRegistered``."""

    server: HubServer
    shown: bool
    reason: str
    message: str
    wanted: bool = False
    """JupyterHub is to be asked to start the server."""
    outdated: bool = False
    """JupyterHub showed a server that must be about to stop."""


@dataclass(frozen=True)
class PoolView:
    """What a Dask scheduler says of one group of workers, all by name.

    Attributes
    ----------
    wanted
        Workers that its tasks would keep busy.
    workers
        Those that the scheduler knows.
    retiring, retired, stuck
        Those that give their results away; have nothing left; hold what nobody else can take.
    """

    wanted: int = 0
    workers: frozenset[str] = frozenset()
    retiring: frozenset[str] = frozenset()
    retired: frozenset[str] = frozenset()
    stuck: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SchedulerView:
    """What is known of a session's Dask scheduler when a pass begins.

    Attributes
    ----------
    groups
        By the name of the DaskWorkerGroup; what it said last.
    trouble
        Why it does not answer, in words for people; empty when it does.
    silent_since
        Since when it has not answered.
    deadline
        Until when its word is waited for while it is silent.
    given_up
        That time has come: workers go without its word.
    """

    groups: Mapping[str, PoolView] = field(default_factory=dict)
    trouble: str = ""
    silent_since: datetime | None = None
    deadline: datetime | None = None
    given_up: bool = False


@dataclass(frozen=True)
class Question:
    """What is asked of a session's Dask scheduler, again and again, as long as a pass plans it.

    Attributes
    ----------
    url
        Of the agent in the scheduler.
    pools
        Group to what is asked of it.
    patience
        Seconds of silence until workers are removed without its word.
    """

    url: str
    pools: Mapping[str, Mapping[str, Any]]
    patience: float
