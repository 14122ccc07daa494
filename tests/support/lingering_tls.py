"""TLS in front of a server, which the server's side ends some seconds late, as a far one does."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from local_cluster import pki


def write_certificates(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Write a CA (`ca`) and what it vouches for (`server`: 127.0.0.1); return the server's side and the client's."""
    authority = pki.Authority.create("test")
    pki.write_pair(directory, "ca", authority.key, authority.certificate)
    pki.write_pair(directory, "server", *authority.issue(pki.Subject("server", "", ("kubernetes", "127.0.0.1"))))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "server.crt", directory / "server.key")
    return server, ssl.create_default_context(cafile=directory / "ca.crt")


@contextmanager
def lingering_tls(url: str, tls: ssl.SSLContext, linger: float) -> Iterator[str]:
    """Relay to a plain server at a URL of this machine; yields the URL of the relay."""
    plain, listener = urlsplit(url), socket.create_server(("127.0.0.1", 0))
    at = (str(plain.hostname), int(plain.port or 0))
    threads: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):  # shut down, below
            while True:
                one = threading.Thread(target=_relay, args=(listener.accept()[0], tls, at, linger))
                one.start()
                threads.append(one)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in (thread, *threads):
            each.join()


def _relay(connection: socket.socket, tls: ssl.SSLContext, at: tuple[str, int], linger: float) -> None:
    # Refused, or gone: a test looks at what the client says of it.
    with suppress(OSError), tls.wrap_socket(connection, server_side=True) as here:
        with socket.create_connection(at) as there:
            while here.pending() or select.select([here, there], [], [])[0]:
                if here.pending() or here in select.select([here], [], [], 0)[0]:
                    if not (data := here.recv(65_536)):
                        break
                    there.sendall(data)
                elif data := there.recv(65_536):
                    here.sendall(data)
                else:
                    break
        time.sleep(linger)
