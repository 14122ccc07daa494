"""A little OpenID Connect issuer, as GitHub and GitLab are for the API server, and GitHub is for its jobs."""

from __future__ import annotations

import json
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local_cluster import pki
from local_cluster.settings import CHECKOUT

EXAMPLES = CHECKOUT / "examples" / "ci"
AUDIENCE = "https://kubernetes.facility.example.org"
PATHS = {"https://token.actions.githubusercontent.com": "/github", "https://gitlab.example.org": "/gitlab"}
"""The issuers of the example, and where they are here."""
GITHUB = {
    "sub": "repo:physics/zmumu:ref:refs/heads/main",
    "repository": "physics/zmumu",
    "repository_id": "7",
    "repository_owner": "physics",
    "repository_owner_id": "1234567",
    "event_name": "push",
    "ref": "refs/heads/main",
    "ref_protected": "true",
    "run_id": "15",
}
GITLAB = {
    "sub": "project_path:physics/zmumu:ref_type:branch:ref:main",
    "project_path": "physics/zmumu",
    "project_id": "9",
    "namespace_id": "42",
    "pipeline_source": "push",
    "ref": "main",
    "ref_protected": "true",
    "job_id": "16",
}
CLAIMS = {"/github": GITHUB, "/gitlab": GITLAB}
SECRET = "what-lets-the-job-ask"
LIFETIME = 300
"""Seconds; as GitHub's."""


class Issuer:
    """Signs tokens, and tells by which keys; serves as long as its context lasts.

    Attributes
    ----------
    url
        Without a path: each of `PATHS` below it is an issuer.
    certificate
        PEM of what vouches for it.
    lifetime
        Seconds that a token lives that a job asks for.
    """

    def __init__(self, url: str, certificate: str) -> None:
        self.url, self.certificate = url, certificate
        self.lifetime = LIFETIME
        self.asked = 0
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def token(self, path: str = "/github", key: rsa.RSAPrivateKey | None = None, **claims: Any) -> str:
        """Return a token with other claims than those of the right one; ``None`` leaves one out."""
        now = int(time.time())
        times = {"iat": now, "nbf": now - 5, "exp": now + self.lifetime}
        whole = {"iss": self.url + path, "aud": AUDIENCE, **times, **CLAIMS[path], **claims}
        said = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(said, key or self._key, algorithm="RS256", headers={"kid": "one"})

    def authentication(self) -> str:
        """Return the example's configuration for the API server, with this issuer in it."""
        config = yaml.safe_load((EXAMPLES / "authentication.yaml").read_text())
        for each in config["jwt"]:
            each["issuer"] |= {"url": self.url + PATHS[each["issuer"]["url"]], "certificateAuthority": self.certificate}
        return yaml.safe_dump(config)

    def job(self, path: str) -> Mapping[str, str]:
        """Return the variables by which a CI system lets a job have its token."""
        if path == "/gitlab":
            return {"AF_CI_TOKEN": self.token(path)}
        url = f"{self.url}{path}/request?api-version=2.0"
        return {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": SECRET}

    def answer(self, target: str, authorization: str | None) -> tuple[int, Any]:
        """Return code and body of the answer to a GET."""
        parts = urlsplit(target)
        path, _, what = parts.path.strip("/").partition("/")
        if what == ".well-known/openid-configuration":
            issuer = f"{self.url}/{path}"
            return 200, {"issuer": issuer, "jwks_uri": f"{issuer}/keys", **_SUPPORTED}
        if what == "keys":
            public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
            return 200, {"keys": [{**public, "kid": "one", "use": "sig", "alg": "RS256"}]}
        if what == "request" and authorization == f"bearer {SECRET}":
            self.asked += 1
            return 200, {"value": self.token(f"/{path}", aud=parse_qs(parts.query)["audience"][0])}
        return 404, {}


_SUPPORTED = {
    "response_types_supported": ["id_token"],
    "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": ["RS256"],
}


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, issuer: Issuer, *arguments: Any) -> None:
        self._issuer = issuer
        super().__init__(*arguments)

    def do_GET(self) -> None:
        code, body = self._issuer.answer(self.path, self.headers["Authorization"])
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def issuing(address: str = "127.0.0.1") -> Iterator[Issuer]:
    """Serve an issuer at an address of this machine, with a certificate authority of its own."""
    authority = pki.Authority.create("issuer")
    with tempfile.TemporaryDirectory(prefix="af-issuer-") as name:
        directory = Path(name)
        pki.write_pair(directory, "serving", *authority.issue(pki.Subject("serving", alternative_names=(address,))))
        certificate = authority.certificate.public_bytes(serialization.Encoding.PEM).decode()
        server = ThreadingHTTPServer((address, 0), BaseHTTPRequestHandler)
        issuer = Issuer(f"https://{address}:{server.server_port}", certificate)
        server.RequestHandlerClass = partial(_Handler, issuer)  # type: ignore[assignment]
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(directory / "serving.crt", directory / "serving.key")
        # A handshake in the thread of its connection: one that stalls keeps nobody else out.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="issuer")
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
