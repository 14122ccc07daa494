"""Speaks to ports whatever they may understand, with what a stranger may have; prints what came back, as JSON.

Runs in a pod. On stdin: ``targets``, each ``{"pod", "ip", "port", "udp", "paths"}``; ``tokens`` by name, of which the
empty one is none at all; ``certificates`` by name, each ``{"ca", "cert", "key"}`` in PEM. Each probe is given the same
few seconds, and no port more than some hundred requests: it is asked, not flooded.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import ssl
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from distributed import Security, rpc

SECONDS = 4.0
SIDE_BY_SIDE = 16
GET = (
    "/",
    "/health",
    "/metrics",
    "/status",
    "/json/",
    "/json/counts.json",
    "/info/main/workers.html",
    "/sitemap.json",
    "/environment/",
    "/executors/",
    "/api",
    "/api/status",
    "/api/contents",
    "/api/kernels",
    "/api/v1/get_workers",
    "/api/v1/applications",
    "/lab",
    "/proxy/8787/status",
    "/files/.bashrc",
    "/logPage/?self&logType=out",
    "/v1/submissions/status/driver-0",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/dimuon",
    "/models",
    "/openapi.json",
    "/a-path-that-nobody-has",
)
INFER = {"inputs": [{"name": "muons", "shape": [1, 6], "datatype": "FP32", "data": [40, 1, 3, 50, 0, 0]}]}
RETIRE = {"pools": {"mallory": {"keep": 0}}}
SUBMIT = {
    "action": "CreateSubmissionRequest",
    "appResource": "file:/tmp/mallory.jar",
    "mainClass": "Mallory",
    "appArgs": [],
    "clientSparkVersion": "4.0.0",
    "environmentVariables": {},
    "sparkProperties": {"spark.app.name": "mallory", "spark.master": "spark://localhost:7077"},
}
POST: Mapping[str, Any] = {
    "/af/v1/pools": RETIRE,
    "/af/v1/scale": {"pool": "cpu", "workers": None},
    "/api/v1/retire_workers": {"workers": ["tcp://192.0.2.1:1"]},
    "/api/v1/adaptive_target": {},
    "/api/kernels": {},
    "/api/terminals": {},
    "/v1/submissions/create": SUBMIT,
    "/workers/kill/?host=192.0.2.1": {},
    "/app/kill/?id=app-0&terminate=true": {},
    "/stages/stage/kill/?id=0": {},
    "/v2/repository/index": {},
    "/v2/models/dimuon/infer": INFER,
    "/v2/repository/models/dimuon/unload": {},
    "/upload": {},
    "/json": {"keys": ["pt"], "values": [1], "model": "dimuon"},
}
GRPC = (
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerMetadata",
    "/inference.GRPCInferenceService/RepositoryIndex",
    "/inference.GRPCInferenceService/ModelInfer",
    "/inference.GRPCInferenceService/RepositoryModelUnload",
    "/spark.connect.SparkConnectService/Config",
    "/spark.connect.SparkConnectService/AnalyzePlan",
    "/spark.connect.SparkConnectService/ReleaseSession",
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/a.Service/ThatNobodyHas",
)

SPARK = {4: "rpc answered", 5: "rpc failed", 7: "file sent", 8: "file refused"}
"""Messages of Spark's transport, by their first byte."""
STAT, DIRLIST = 3017, 3004
XROOTD = {
    "stat /": (STAT, "/"),
    "dirlist /": (DIRLIST, "/"),
    "stat of a file of the origin": (STAT, "/root://origin.af-storage.svc.cluster.local:1094//data/uproot-Zmumu.root"),
    "stat of another server": (STAT, "/root://169.254.169.254:80//latest"),
}
"""Requests by name; with the paths that readers use."""


@dataclass(frozen=True)
class Target:
    """A port, and the paths under which what listens there may stand."""

    pod: str
    ip: str
    port: int
    udp: bool
    paths: list[str]


@dataclass(frozen=True)
class Found:
    """What came back of one probe; ``said`` is empty where nothing came."""

    target: Target
    probe: str
    credential: str
    asked: str
    said: str

    def printed(self) -> dict[str, Any]:
        """Return it for JSON."""
        where = {"pod": self.target.pod, "port": self.target.port, "udp": self.target.udp}
        return where | {k: getattr(self, k) for k in ("probe", "credential", "asked", "said")}


Findings = Iterator[Found]


def connect(target: Target) -> socket.socket:
    """Return a connection; the caller closes it."""
    return socket.create_connection((target.ip, target.port), SECONDS)


def send_datagram(target: Target) -> Found:
    """Say what comes of a datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(SECONDS / 2)
        own.connect((target.ip, target.port))
        try:
            own.send(b"mallory")
            answer = own.recv(100)
        except OSError:
            answer = b""
    return Found(target, "datagram", "", "", f"answered {answer!r}" if answer else "")


def asked_of(target: Target) -> Iterator[tuple[str, str, bytes | None]]:
    """Yield method, path and body of every request."""
    for prefix in target.paths:
        yield from (("GET", prefix + path, None) for path in GET)
        yield from (("POST", prefix + path, json.dumps(body).encode()) for path, body in POST.items())
    yield "GET", f"http://{target.ip}:{target.port}/json/", None
    yield from ((method, "/", None) for method in ("OPTIONS", "TRACE", "PUT", "DELETE"))


def headers(token: str) -> dict[str, str]:
    """Return the headers of who has this token, or none."""
    own = {"Content-Type": "application/json", "Connection": "keep-alive"}
    return own | ({"Authorization": f"Bearer {token}"} if token else {})


def http_client(target: Target, tls: ssl.SSLContext | None) -> http.client.HTTPConnection:
    """Return a client that is not connected yet."""
    if tls:
        return http.client.HTTPSConnection(target.ip, target.port, timeout=SECONDS, context=tls)
    return http.client.HTTPConnection(target.ip, target.port, timeout=SECONDS)


def speaks_http(target: Target, tls: ssl.SSLContext | None) -> bool:
    """Return whether anything like HTTP comes back."""
    client = http_client(target, tls)
    try:
        client.request("GET", "/health")
        client.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()
    return True


def ask_http(target: Target, credential: str, token: str, tls: ssl.SSLContext | None) -> Findings:
    """Yield the answers to all requests, over one connection while it holds."""
    client, probe = http_client(target, tls), "https" if tls else "http"
    for method, path, body in asked_of(target):
        try:
            client.request(method, path, body, headers(token))
            answer = client.getresponse()
            text = answer.read(200_000)[:80].decode(errors="replace")
            said = f"{answer.status} {answer.headers.get('Location', '')} {text}"
            if answer.isclosed() is False:
                client.close()
        except (OSError, http.client.HTTPException) as error:
            said = f"error {type(error).__name__}"
            client.close()
        yield Found(target, probe, credential, f"{method} {path}", said)
    client.close()


def all_http(target: Target, given: Mapping[str, Any], contexts: Mapping[str, ssl.SSLContext]) -> Findings:
    """Yield what HTTP brings: with each token, without TLS and with each certificate that is let in."""
    for name, tls in {"": None, **contexts}.items():
        if speaks_http(target, tls):
            for credential, token in given["tokens"].items():
                yield from ask_http(target, "/".join(filter(None, (name, credential))), token, tls)
            return


def ask_grpc(target: Target, given: Mapping[str, Any], _: Mapping[str, ssl.SSLContext]) -> Findings:
    """Yield the status of calls, with each token."""
    with grpc.insecure_channel(f"{target.ip}:{target.port}", [("grpc.enable_retries", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(SECONDS)
        except grpc.FutureTimeoutError:
            return
        for credential, token in given["tokens"].items():
            metadata = [("authorization", f"Bearer {token}")] if token else []
            for method in GRPC:
                yield Found(target, "grpc", credential, method, _called(channel, method, metadata))


def _called(channel: grpc.Channel, method: str, metadata: list[tuple[str, str]]) -> str:
    call = channel.unary_stream(method, lambda raw: raw, lambda raw: raw)
    try:
        next(iter(call(b"", timeout=SECONDS, metadata=metadata)), None)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def ask_xrootd(target: Target, *_: object) -> Findings:
    """Yield whether an XRootD server lets somebody in who shows nothing, and what it then tells."""
    with connect(target) as own:
        own.settimeout(SECONDS)
        own.sendall(struct.pack("!iiiii", 0, 0, 0, 4, 2012))
        if _exactly(own, 16)[4:8] != struct.pack("!I", 8):
            return
        login = struct.pack("!HHi8sBBBBi", 1, 3007, os.getpid() % 2**31, b"mallory\0", 0, 0, 4, 0, 0)
        yield Found(target, "xrootd", "", "login", _xrootd(own, login))
        for name, (code, path) in XROOTD.items():
            body = struct.pack("!HH16si", 1, code, b"", len(path)) + path.encode()
            yield Found(target, "xrootd", "", name, _xrootd(own, body))


def _xrootd(own: socket.socket, request: bytes) -> str:
    own.sendall(request)
    status, length = struct.unpack("!2xHi", _exactly(own, 8))
    said = _exactly(own, min(length, 1000))
    names = {0: "ok", 4000: "oksofar", 4002: "authmore", 4003: "error"}
    return f"{names.get(status, status)} {said[4:60].decode(errors='replace') if status == 4003 else ''}"


def _exactly(own: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = own.recv(size - len(found))
        if not part:
            raise ConnectionError("closed")
        found += part
    return found


def ask_spark(target: Target, *_: object) -> Findings:
    """Yield what Spark's transport says to an RPC and to a request for a file by who has shown no secret."""
    body = b"\0\0\4me\0\0\0\1\0\6Master" + b"not serialised"
    shared = b"/files/hostname"
    requests = {
        "rpc": struct.pack("!BqI", 3, 7, len(body)) + body,
        "a file that its driver shares": struct.pack("!BI", 6, len(shared)) + shared,
    }
    for name, message in requests.items():
        with connect(target) as own, suppress(OSError):
            own.settimeout(SECONDS)
            own.sendall(struct.pack("!q", len(message) + 8) + message)
            length = struct.unpack("!q", _exactly(own, 8))[0] - 8
            said = _exactly(own, min(length, 4000))
            if word := SPARK.get(said[0]):
                yield Found(target, "spark", "", name, f"{word} {said[1:].decode(errors='replace')}")


async def ask_dask(target: Target, securities: Mapping[str, Security | None]) -> list[Found]:
    """Return who a Dask process says that it is, to each certificate and to none."""
    found = []
    for credential, security in securities.items():
        address = f"{'tls' if security else 'tcp'}://{target.ip}:{target.port}"
        args = security.get_connection_args("worker") if security else None
        server = rpc(address, timeout=SECONDS, connection_args=args)
        try:
            answer = await asyncio.wait_for(server.identity(), SECONDS * 2)
            found.append(Found(target, "dask", credential, "identity", f"ok {answer.get('type')}"))
        except Exception as error:  # noqa: BLE001 - whatever it is, we were not let in
            found.append(Found(target, "dask", credential, "identity", f"error {type(error).__name__}"))
        finally:
            await server.close_rpc()
    return found


def ask_tls(target: Target, contexts: Mapping[str, ssl.SSLContext]) -> Findings:
    """Yield with which certificates a TLS server talks on after the handshake."""
    for credential, tls in contexts.items():
        try:
            with connect(target) as raw, tls.wrap_socket(raw) as own:
                said = _talks_on(own)
        except OSError as error:
            said = f"error {type(error).__name__}"
        yield Found(target, "tls", credential, "handshake", said)
        if said == "error TimeoutError":
            return  # whoever knows no TLS and waits for more would do so each time


def _talks_on(own: ssl.SSLSocket) -> str:
    """In TLS 1.3 a certificate is refused after the client's side of the handshake."""
    own.settimeout(SECONDS / 2)
    with suppress(TimeoutError):
        if not own.recv(1):
            return "closed"
    return "ok"


def context(files: Mapping[str, str]) -> ssl.SSLContext:
    """Return a client's context: it takes any server, and shows its certificate where it has one."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if files:
        made.load_cert_chain(files["cert"], files["key"])
    return made


def security(files: Mapping[str, str]) -> Security:
    """Return Dask's, which trusts whom the files name."""
    return Security(
        tls_ca_file=files["ca"], tls_worker_cert=files["cert"], tls_worker_key=files["key"], require_encryption=True
    )


def written(certificates: Mapping[str, Mapping[str, str]], folder: str) -> dict[str, dict[str, str]]:
    """Return the certificates as files."""
    found: dict[str, dict[str, str]] = {}
    for name, parts in certificates.items():
        found[name] = {}
        for part, text in parts.items():
            path = found[name][part] = f"{folder}/{name.replace(' ', '-')}-{part}.pem"
            with open(path, "w", encoding="ascii", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
                file.write(text)
    return found


def probe(target: Target, given: Mapping[str, Any], files: Mapping[str, Mapping[str, str]]) -> list[Found]:
    """Return all that comes of a port which answers."""
    contexts = {"no certificate": context({})} | {name: context(parts) for name, parts in files.items()}
    found = list(ask_tls(target, contexts))
    let_in = {each.credential: contexts[each.credential] for each in found if each.said == "ok"}
    for ask in (all_http, ask_grpc, ask_xrootd, ask_spark):
        before = len(found)
        with suppress(OSError, struct.error):
            found += ask(target, given, let_in)
        if len(found) > before:
            return found  # it speaks this, and nothing else
    shown = {"": None} | {name: security(parts) for name, parts in files.items()}
    return found + asyncio.run(ask_dask(target, shown))


def look(target: Target, given: Mapping[str, Any], files: Mapping[str, Mapping[str, str]]) -> list[Found]:
    """Return all that comes of a port."""
    if target.udp:
        return [send_datagram(target)]
    try:
        connect(target).close()
    except OSError:
        return []
    return probe(target, given, files)


def main() -> None:
    """Ask all ports side by side."""
    given = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        files = written(given["certificates"], folder)
        targets = [Target(**each) for each in given["targets"]]
        found = list(pool.map(lambda target: look(target, given, files), targets))
    print(json.dumps([each.printed() for several in found for each in several]))


if __name__ == "__main__":
    main()
