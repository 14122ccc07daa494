"""What is known of others than the API server when a pass begins: JupyterHub, the network, the agents inside sessions.

A pass never waits for any of them: it gets these values, and leaves wishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

ACTIVITY_STEP = timedelta(minutes=5)
"""To which it is told when something was last used: what is used all the time is news once in so many."""


def activity_at(used: datetime) -> datetime:
    """Return when something was last used as it is told: the last `ACTIVITY_STEP` before it."""
    seconds = ACTIVITY_STEP.total_seconds()
    return datetime.fromtimestamp(used.timestamp() // seconds * seconds, UTC)


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
        URL of its API, as pods reach it: ``http://hub.af-system.svc:8081/hub/api``.
    base_url
        Path under which it is shown: ``/``.
    account
        Who it is for the API server; empty where nobody has said it.
    servers
        Every server that it counts as started or starting; None while it does not answer.
    activity
        When each server was last used, to five minutes; what it said last, also while it does not answer.
    refused
        Servers that it would not start, or that have just stopped: nobody asks for them for a while.
    trouble
        Why `servers` is None, in words for people.
    """

    api_url: str
    base_url: str = "/"
    account: str = ""
    servers: frozenset[HubServer] | None = None
    activity: Mapping[HubServer, datetime] = field(default_factory=dict)
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


class _Fact(BaseModel):
    """A fact of the facility, as the chart's values have it."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Pods(_Fact):
    """Some pods of one namespace: those with these labels, or all of them."""

    namespace: str = Field(min_length=1)
    pod_labels: Mapping[str, str] = Field(default_factory=dict)


class Resolver(Pods):
    """The cluster's DNS.

    Attributes
    ----------
    ports
        At which its pods listen.
    addresses
        At which it is asked where it is no pod: that of a cache on each node.
    """

    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(default=(53,), min_length=1)
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()


class ClusterNetwork(_Fact):
    """What is said of the facility's network at the installation.

    Attributes
    ----------
    cluster_cidrs
        Addresses of the cluster's own: pods, Services, nodes, the API server.
    dns
        Whom pods ask for names.
    operator
        Pods of the operator, which ask agents inside sessions.
    hub, proxy
        Pods of JupyterHub and its proxy, which connect to notebooks; None where there are none.
    metrics
        Pods that read the metrics of sessions; None where nobody does.
    """

    cluster_cidrs: tuple[IPv4Network | IPv6Network, ...]
    dns: Resolver
    operator: Pods
    hub: Pods | None = None
    proxy: Pods | None = None
    metrics: Pods | None = None


class Answer(BaseModel):
    """What an agent says. Its program runs what users write: a component says by a model of its own what it believes.

    Every part is bounded, and what is not asked for is left out: all that can come of an answer is what the component
    lets come of it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    @property
    def hurry(self) -> bool:
        """Whether somebody waits for what it says next: it is asked again soon."""
        return False

    def about(self, asked: Mapping[str, Any]) -> Self:
        """Return the part of it that is about what was asked."""
        return self


Workers = Annotated[frozenset[Annotated[str, Field(max_length=63)]], Field(max_length=2000)]


class PoolAnswer(BaseModel):
    """What an agent says of one group of workers, all by name.

    Attributes
    ----------
    wanted
        Workers that its tasks would keep busy.
    retiring, retired, stuck
        Those that give their results away; have nothing left; hold what nobody else can take.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    wanted: int = Field(default=0, ge=0, le=1_000_000)
    retiring: Workers = frozenset()
    retired: Workers = frozenset()
    stuck: Workers = frozenset()


class PoolsAnswer(Answer):
    """What an agent says of groups of workers, by the name of the group."""

    pools: dict[str, PoolAnswer] = Field(default_factory=dict, max_length=100)

    @property
    def hurry(self) -> bool:
        """Workers are on their way out, and somebody waits for them."""
        return any(pool.retiring for pool in self.pools.values())

    def about(self, asked: Mapping[str, Any]) -> Self:
        """Return what it says of groups that were asked for."""
        pools = {name: self.pools[name] for name in asked.get("pools", ()) if name in self.pools}
        return self.model_copy(update={"pools": pools})


@dataclass(frozen=True)
class AgentView:
    """What is known of an agent inside a session when a pass begins.

    Attributes
    ----------
    answer
        What it said last; None where it has said nothing yet.
    trouble
        Why it does not answer, in words for people; empty when it does.
    silent_since
        Since when it has not answered.
    deadline
        Until when its word is waited for while it is silent.
    given_up
        That time has come: what waited for its word goes on without.
    """

    answer: Answer | None = None
    trouble: str = ""
    silent_since: datetime | None = None
    deadline: datetime | None = None
    given_up: bool = False

    @property
    def pools(self) -> Mapping[str, PoolAnswer]:
        """What it said of groups of workers; nothing where it was asked for something else."""
        return self.answer.pools if isinstance(self.answer, PoolsAnswer) else {}


@dataclass(frozen=True)
class Question:
    """What is asked of an agent, again and again, as long as a pass plans it.

    Attributes
    ----------
    url
        Where it is asked, with POST.
    asked
        What, as JSON.
    answer
        The model of what it may say.
    patience
        Seconds of silence until what waits for its word goes on without.
    every
        Seconds between two times that it is asked while all is calm; None is the least that there is.
    token
        By which it knows who asks; empty for one that lets everybody ask.
    """

    url: str
    asked: Mapping[str, Any]
    answer: type[Answer]
    patience: float
    every: float | None = None
    token: str = field(default="", repr=False)
