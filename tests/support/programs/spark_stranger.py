"""Tries ports of a session's Spark as somebody who has none of its secrets, and says what came of it, as JSON.

``HOST:PORT …`` from any pod, with nothing but Python: what each answers over HTTP, or to messages of Spark's own
protocol. Without any it starts a driver as users do, where there is Spark, and tries that.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit

SECONDS = 20
ASKED = [
    *[
        ("GET", path)
        for path in ("/", "/json/", "/api/v1/applications", "/environment/", "/metrics/json/", "/logPage/")
    ],
    *[("GET", path) for path in ("/static/webui.css", "/app/", "/conf", "/v1/submissions/status/x", "/elsewhere")],
    *[("POST", path) for path in ("/workers/kill/", "/app/kill/", "/driver/kill/", "/v1/submissions/create")],
    *[("POST", path) for path in ("/af/v1/pools", "/af/v1/scale")],
]
FORGED = b"Bearer eyJhbGciOiJub25lIn0.e30."
"""A token that says of itself that nobody has signed it."""
RPC_REQUEST, STREAM_REQUEST, ONE_WAY = 3, 6, 9
ANSWERS = {2: "failure", 4: "answer", 5: "failure", 7: "answer", 8: "failure"}
"""Kind of a message of Spark's -> what it is."""


def over_http(host: str, port: int) -> dict[str, int | None]:
    """Return request -> its status, without a token and with a forged one; None where nobody speaks HTTP."""
    found: dict[str, int | None] = {}
    for method, path in ASKED:
        for shown in (None, FORGED):
            found[f"{method} {path} {'forged' if shown else 'bare'}"] = status(host, port, method, path, shown)
            if set(found.values()) == {None}:
                return found
    return found


def status(host: str, port: int, method: str, path: str, shown: bytes | None) -> int | None:
    connection = HTTPConnection(host, port, timeout=SECONDS)
    body = b"{}" if method == "POST" else None
    try:
        connection.request(method, path, body, {"Authorization": shown} if shown else {})
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def in_sparks_words(host: str, port: int, file: str) -> dict[str, str]:
    """Return message -> what it is answered with, to one that has not shown the secret: ``closed``, or ``failure``."""
    blocks = b"".join(map(_text, ("broadcast_0_piece0", "rdd_0_0")))
    asks_blocks = bytes([0]) + _text("app") + _text("0") + struct.pack(">i", 2) + blocks
    messages = {
        "blocks": (RPC_REQUEST, struct.pack(">qi", 1, len(asks_blocks)) + asks_blocks),
        "one way": (ONE_WAY, struct.pack(">i", len(asks_blocks)) + asks_blocks),
        "file": (STREAM_REQUEST, _text(file)),
    }
    return {name: answer(host, port, *message) for name, message in messages.items()}


def answer(host: str, port: int, kind: int, message: bytes) -> str:
    received = b""
    with suppress(OSError), socket.create_connection((host, port), SECONDS) as connection:
        connection.settimeout(SECONDS)
        connection.sendall(struct.pack(">qb", 9 + len(message), kind) + message)
        while len(received) < 9 and (more := connection.recv(9)):
            received += more
    return ANSWERS.get(received[8], "answer") if len(received) >= 9 else "closed"


def _text(words: str) -> bytes:
    return struct.pack(">i", len(words)) + words.encode()


def others(targets: list[str]) -> dict[str, object]:
    """Return what each answers: over HTTP where it speaks that, or else in Spark's words."""
    said: dict[str, object] = {}
    for target in targets:
        host, _, port = target.rpartition(":")
        http = over_http(host, int(port))
        said[target] = {"http": http} if any(http.values()) else {"spark": in_sparks_words(host, int(port), "/files/x")}
    return said


def own_driver() -> dict[str, object]:
    """Return what a driver answers that shares a file: over HTTP, and in Spark's words."""
    from pyspark import SparkContext  # noqa: PLC0415 - not where strangers are

    with SparkContext() as context:
        with NamedTemporaryFile() as file:
            Path(file.name).write_text("what only those of the session may have")
            context.addFile(file.name)
            host, port = (str(context.getConf().get(f"spark.driver.{what}")) for what in ("host", "port"))
            words = in_sparks_words(host, int(port), f"/files/{Path(file.name).name}")
        ui = urlsplit(str(context.uiWebUrl))
        return {"http": over_http(str(ui.hostname), int(ui.port or 0)), "spark": words}


if __name__ == "__main__":
    print(json.dumps(others(sys.argv[1:]) if sys.argv[1:] else own_driver()))
