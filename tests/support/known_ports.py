"""What a session's ports are for, and how each is spoken to: one that is not here is a new one, and fails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.support.ports import Port


@dataclass(frozen=True)
class Known:
    """A port as the documentation calls it, and the probe that it must understand."""

    title: str
    probe: str


BESIDE = Known("XCache beside a pod", "xrootd")
FROM = Known("what a program sends from", "datagram")
"""Its answers come there: of DNS, and whoever it asks. There is none for others."""
PORTS = {
    ("notebook", 8888): Known("notebook", "http"),
    ("notebook", 4040): Known("classic Spark driver in a notebook: page", "http"),
    ("notebook", 0): Known("classic Spark driver in a notebook: itself and its blocks", "spark"),
    ("dask scheduler", 8786): Known("Dask scheduler", "dask"),
    ("dask scheduler", 8787): Known("Dask scheduler: dashboard, agent, metrics", "http"),
    ("dask worker", 0): Known("Dask workers and nannies", "dask"),
    ("dask worker", 8788): Known("Dask workers: dashboard, metrics", "http"),
    ("spark master", 7077): Known("Spark master", "spark"),
    ("spark master", 8080): Known("Spark master: page", "http"),
    ("spark master", 8790): Known("Spark agent", "http"),
    ("spark master", 15002): Known("Spark Connect", "grpc"),
    ("spark master", 4040): Known("Spark Connect: page", "http"),
    ("spark master", 0): Known("Spark Connect: its driver and blocks", "spark"),
    ("spark worker", 8081): Known("Spark workers: page", "http"),
    ("spark worker", 0): Known("Spark workers and executors", "spark"),
    ("inference worker", 8000): Known("model service: HTTP", "http"),
    ("inference worker", 8001): Known("model service: gRPC", "grpc"),
    ("xcache", 1096): Known("XCache", "xrootd"),
    ("xcache", 8791): Known("XCache: counters of decisions", "http"),
    ("dask worker", 1096): BESIDE,
    ("notebook", 1096): BESIDE,
}


def known(port: Port) -> Known | None:
    """Return what a port is for."""
    if port.udp:
        return None if port.number else FROM
    return PORTS.get((port.component, port.number))


def by_title(ports: Iterable[Port]) -> dict[str, list[Port]]:
    """Return ports by what they are for, in the order of the documentation.

    Left out are those that nobody knows, and those that are there for as long as a program waits for an answer.
    """
    found: dict[str, list[Port]] = {each.title: [] for each in PORTS.values()}
    for port in ports:
        if (use := known(port)) and use is not FROM:
            found[use.title].append(port)
    return {title: several for title, several in found.items() if several}
