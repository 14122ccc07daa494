"""Tries which ports can be reached at all; prints what came of each, as JSON.

Runs in a pod, with nothing but Python's own library: it is asked often. On stdin: ``targets``, each ``{"pod", "ip",
"port", "udp"}``.
"""

from __future__ import annotations

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SECONDS = 4.0
SIDE_BY_SIDE = 32


def knock(target: dict[str, Any]) -> str:
    """Say whether a connection comes about; of a datagram, whether anything comes back."""
    kind = socket.SOCK_DGRAM if target["udp"] else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as own:
        own.settimeout(SECONDS)
        try:
            own.connect((target["ip"], target["port"]))
            if target["udp"]:
                own.send(b"mallory")
                own.recv(100)
        except TimeoutError:
            return "silent"
        except OSError as error:
            return f"refused: {error.strerror}"
    return "connected"


def main() -> None:
    """Try all ports side by side."""
    targets = json.load(sys.stdin)["targets"]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        said = list(threads.map(knock, targets))
    where = ({"pod": target["pod"], "port": target["port"], "udp": target["udp"]} for target in targets)
    rest = {"probe": "connect", "credential": "", "asked": ""}
    print(json.dumps([{**each, **rest, "said": words} for each, words in zip(where, said, strict=True)]))


if __name__ == "__main__":
    main()
