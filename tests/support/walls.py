"""What of a session the network alone holds back, and what its programs do: as a table for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.support.known_ports import known
from tests.support.ports import Port
from tests.support.strangers import Found, gained, reached

NETWORK_ONLY = {
    "a file that its driver shares": "files that a driver shares by name (`addFile`)",
}
"""What the programs themselves give to whoever asks, as security.md says; by what is asked for."""
REFUSALS = {
    "grpc": "`UNAUTHENTICATED`",
    "dask": "no handshake without the session's certificate",
    "spark": "asked for the session's secret",
    "xrootd": "asked who it is",
}


def held_by_network(found: Found) -> bool:
    """Return whether it is known, and said, that only the network holds this back."""
    return found.asked in NETWORK_ONLY


def table(titles: Mapping[str, Sequence[Port]], enforced: Sequence[Found], answers: Sequence[Found]) -> str:
    """Return the table in Markdown: a row for each use of ports."""
    rows = [
        f"| {title} | {_numbers(ports)} | {_reached(ports, enforced)} | {_given(ports, answers)} |"
        for title, ports in titles.items()
    ]
    head = "| What listens | Port | Where policies are enforced | Where they are not |\n|---|---|---|---|"
    return "\n".join([head, *rows, ""])


def _numbers(ports: Iterable[Port]) -> str:
    [number] = {port.number for port in ports}
    return str(number or "any")


def _reached(ports: Sequence[Port], enforced: Iterable[Found]) -> str:
    return "**connected**" if reached(f for f in enforced if f.port in ports) else "no connection"


def _given(ports: Sequence[Port], answers: Iterable[Found]) -> str:
    here = [found for found in answers if found.port in ports]
    use = known(ports[0])
    assert use
    given = {_words(found) for found in gained(here)}
    return f"**{'; '.join(sorted(given))}**" if given else REFUSALS.get(use.probe) or _status(here)


def _status(found: Iterable[Found]) -> str:
    """Return by what HTTP refuses."""
    said = {"the login" if each.is_login else f"`{each.said[:3]}`" for each in found if each.probe == "http"}
    return " or ".join(sorted(said & {"`401`", "`403`", "the login"}))


def _words(found: Found) -> str:
    return NETWORK_ONLY.get(found.asked) or f"{found.probe} {found.asked}"
