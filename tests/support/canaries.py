"""The secrets of a session, in all the ways in which somebody might write them; and where such text is found."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{32,}(?![0-9a-f])")
SIGNED = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
"""A JSON web token."""
KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", re.DOTALL)
LEAST = 16
"""Characters of a piece that is looked for."""


@dataclass(frozen=True)
class Canary:
    """One secret: where it comes from, and the texts by which it is known."""

    name: str
    texts: tuple[str, ...] = field(repr=False)

    def sings(self, text: str) -> bool:
        """Return whether it is in a text, in whatever form."""
        return any(each in text for each in self.texts)


def of(secrets: Mapping[tuple[str, str], str]) -> list[Canary]:
    """Return the canaries among the values of Secrets, by Secret and key: tokens and private keys."""
    return [
        Canary(f"{secret} {key}", tuple(dict.fromkeys(_written(piece))))
        for (secret, key), value in secrets.items()
        for piece in _pieces(value)
    ]


def found(canaries: list[Canary], text: str) -> list[str]:
    """Return the names of those that are in a text."""
    return sorted({canary.name for canary in canaries if canary.sings(text)})


def _pieces(value: str) -> Iterator[str]:
    yield from HEX.findall(value)
    yield from SIGNED.findall(value)
    for body in KEY.findall(value):
        yield from (line for line in body.split() if len(line) >= LEAST)


def _written(piece: str) -> Iterator[str]:
    """Yield a secret as it is, quoted, in hex, and in base64 wherever in a longer text it begins."""
    yield piece
    yield quote(piece, safe="")
    yield piece.encode().hex()
    raw = [piece.encode()] + ([bytes.fromhex(piece)] if HEX.fullmatch(piece) and not len(piece) % 2 else [])
    for each in raw:
        for offset in range(3):
            # What depends on the neighbours is left out.
            coded = base64.b64encode(b"\0" * offset + each).decode()
            middle = coded[4 if offset else 0 : len(coded) - 4]
            yield from (middle, middle.replace("+", "-").replace("/", "_"))
