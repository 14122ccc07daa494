"""A kubeconfig: which server, and who asks. Read as kubectl reads it, in a hundredth of the Kubernetes client's time.

A program that asks for one list must not load 60 MiB of models first; and where a login program fails, that is the
error, and not what the server says to somebody unknown.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from af_kube.errors import LoginFailed, NoCredentials, NoSuchContext

DEFAULT = "~/.kube/config"
LOGIN_SECONDS = 60.0
PERSON_SECONDS = 600.0
"""So long may a login program take; the second where it may wait for a person in a browser."""
TOKEN_SECONDS = 60.0
"""A file with a token is read again after this time: whoever renews it does so long before its end."""
EARLY_SECONDS = 30.0
LEGACY = "client.authentication.k8s.io/v1beta1"
_Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Context:
    """One context of a kubeconfig.

    Attributes
    ----------
    server
        URL, without a slash at its end.
    """

    namespace: str
    server: str
    cluster: _Entry = field(repr=False)
    login: Login = field(repr=False)
    folder: Path = field(repr=False)
    """Of the file with the cluster: relative paths in it begin here."""

    @property
    def server_name(self) -> str | None:
        """Whom the server's certificate must be made out to, if not the URL's host."""
        return self.cluster.get("tls-server-name")

    @property
    def proxy(self) -> str | None:
        """URL of the proxy on the way to the server, if there is one."""
        return self.cluster.get("proxy-url")

    def tls(self) -> ssl.SSLContext | None:
        """Return what vouches for the server, with the certificate that we show it; None for http.

        Raises
        ------
        NoCredentials
            A certificate or a key cannot be read.
        """
        if not self.server.startswith("https:"):
            return None
        cluster = self.cluster
        with _explained("a certificate of the kubeconfig cannot be used"):
            context = ssl.create_default_context(
                cafile=_file(cluster, "certificate-authority", self.folder),
                cadata=_data(cluster, "certificate-authority"),
            )
            # Stricter than kubectl: many a cluster's authority lacks what Python from 3.13 on would ask of it.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if cluster.get("insecure-skip-tls-verify"):
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.login.show(context)
        return context


class Login:
    """How somebody is known: by a token, a name and a password, a certificate, or what a program says of these.

    Parameters
    ----------
    user
        The entry of the kubeconfig.
    folder
        Of its file.
    cluster
        Told to the program, if it wants to know.
    """

    def __init__(self, user: _Entry, folder: Path, cluster: _Entry) -> None:
        self._user = user
        self._folder = folder
        self._cluster = cluster
        self._said: _Entry = {}
        self._until = float("-inf")

    def authorization(self) -> str | None:
        """Return the header's value for a request that is made now; None where a certificate says who asks.

        Raises
        ------
        LoginFailed
            The program of the kubeconfig did not do its work.
        NoCredentials
            A file cannot be read.
        """
        user = self._user
        if user.get("exec"):
            token = self._asked().get("token")
        elif user.get("tokenFile"):
            token = self._read_token()
        else:
            token = user.get("token")
        if token:
            return f"Bearer {token}"
        if user.get("username") is None:
            return None
        pair = f"{user['username']}:{user.get('password', '')}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def show(self, context: ssl.SSLContext) -> None:
        """Put the user's certificate into a TLS context, if there is one."""
        said = self._asked() if self._user.get("exec") else {}
        if said.get("clientCertificateData"):
            _load_chain(context, str(said["clientCertificateData"]), str(said.get("clientKeyData", "")))
            return
        names = "client-certificate", "client-key"
        paths = [_file(self._user, name, self._folder) for name in names]
        texts = [_data(self._user, name) for name in names]
        if texts[0] and texts[1]:
            _load_chain(context, texts[0], texts[1])
        elif paths[0]:
            context.load_cert_chain(paths[0], paths[1])

    def _read_token(self) -> str:
        if time.time() > self._until:
            path = self._folder / str(self._user["tokenFile"])
            with _explained(f"cannot read the token in {path}"):
                self._said, self._until = {"token": path.read_text().strip()}, time.time() + TOKEN_SECONDS
        return str(self._said["token"])

    def _asked(self) -> _Entry:
        if time.time() > self._until:
            program = self._user["exec"]
            self._said = _credential(program, self._folder, self._cluster)
            self._until = _end(str(program["command"]), self._said)
        return self._said


def load(paths: str | None = None, context: str | None = None) -> Context:
    """Return a context of a kubeconfig, or of several that make one: of what two say, the first counts.

    Parameters
    ----------
    paths
        As in $KUBECONFIG; ~/.kube/config if left out.
    context
        Its current one if left out.

    Raises
    ------
    NoSuchContext
        It has no context of this name.
    NoCredentials
        There is no file, or it is not what it should be.
    """
    given = paths or DEFAULT
    files = [Path(path).expanduser() for path in given.split(os.pathsep) if path]
    found = [(_parsed(path), path.parent.absolute()) for path in files if path.exists()]
    if not found:
        raise NoCredentials(f"no kubeconfig at {given}: set KUBECONFIG, or ask your facility for one")
    name = context or next((str(c["current-context"]) for c, _ in found if c.get("current-context")), "")
    if not name:
        raise NoCredentials(f"the kubeconfig {given} has no current-context: choose one with --context")
    chosen = _entry(found, "contexts", name)
    if chosen is None:
        raise NoSuchContext(f"no context {name!r} in {given}: `kubectl config get-contexts` lists them")
    entry = chosen[0]
    cluster, user = _named(found, entry, "cluster", given), _named(found, entry, "user", given)
    server = str(cluster[0].get("server") or "").rstrip("/")
    if not server:
        raise NoCredentials(f"the kubeconfig {given} names no server for its cluster {entry.get('cluster')!r}")
    login = Login(user[0], user[1], cluster[0])
    return Context(str(entry.get("namespace") or "default"), server, cluster[0], login, cluster[1])


def in_cluster(directory: Path) -> Context:
    """Return what the kubelet has mounted into this pod, at `directory`, as a context."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise NoCredentials("there is no kubeconfig, and no KUBERNETES_SERVICE_HOST: this is no pod of a cluster")
    with _explained("cannot use the pod's service account"):
        namespace = (directory / "namespace").read_text().strip()
    cluster = {"certificate-authority": "ca.crt"}
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Context(namespace, server, cluster, Login({"tokenFile": "token"}, directory, cluster), directory)


_Files = Sequence[tuple[_Entry, Path]]


def _parsed(path: Path) -> _Entry:
    with _explained(f"cannot read the kubeconfig {path}"):
        config = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    if config is not None and not isinstance(config, dict):
        raise NoCredentials(f"{path} is no kubeconfig")
    return config or {}


def _entry(files: _Files, kind: str, name: str) -> tuple[_Entry, Path] | None:
    for config, folder in files:
        for each in config.get(kind) or ():
            if isinstance(each, dict) and each.get("name") == name:
                return each.get(kind.removesuffix("s")) or {}, folder
    return None


def _named(files: _Files, context: _Entry, kind: str, given: str) -> tuple[_Entry, Path]:
    name = str(context.get(kind) or "")
    found = _entry(files, f"{kind}s", name)
    if found is None and (kind == "cluster" or name):
        raise NoCredentials(f"the kubeconfig {given} has no {kind} {name!r}, of which its context speaks")
    return found or ({}, Path())


def _file(entry: _Entry, key: str, folder: Path) -> str | None:
    if not entry.get(key) or entry.get(f"{key}-data"):
        return None
    path = folder / str(entry[key])
    path.open("rb").close()  # ssl does not say which file it is that is missing
    return str(path)


def _data(entry: _Entry, key: str) -> str | None:
    data = entry.get(f"{key}-data")
    return base64.b64decode(str(data), validate=True).decode() if data else None


def _load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # ssl takes files alone. This one is readable by us only, and gone at once.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(f"{certificate}\n{key}")
        file.flush()
        context.load_cert_chain(file.name)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except yaml.YAMLError as error:
        # Its own text quotes the lines, and they may hold a token.
        mark = getattr(error, "problem_mark", None)
        raise NoCredentials(f"{what}: no valid YAML" + (f" in line {mark.line + 1}" if mark else "")) from None
    except UnicodeDecodeError:
        raise NoCredentials(f"{what}: it is no text") from None
    except (ssl.SSLError, binascii.Error, ValueError) as error:
        raise NoCredentials(f"{what}: {type(error).__name__}: {error}") from None
    except OSError as error:
        which = f"{error.filename}: " if error.filename else ""
        raise NoCredentials(f"{what}: {which}{error.strerror or error}") from error


def _credential(program: _Entry, folder: Path, cluster: _Entry) -> _Entry:
    """Return what a login program says, which is a credential and nothing that is ever shown."""
    command = str(program.get("command") or "")
    # As kubectl: a word is looked for in PATH, and what has a slash begins at the kubeconfig.
    path = str(folder / command) if "/" in command else command
    argv = [path, *map(str, program.get("args") or ())]
    more = {str(each["name"]): str(each.get("value", "")) for each in program.get("env") or ()}
    person = program.get("interactiveMode") != "Never" and sys.stdin is not None and sys.stdin.isatty()
    environment = {**os.environ, **more, "KUBERNETES_EXEC_INFO": _exec_info(program, cluster, person)}
    seconds = PERSON_SECONDS if person else LOGIN_SECONDS
    # Who is asked to open a page in a browser must see it: then stderr is theirs.
    streams: dict[str, Any] = {} if person else {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    try:
        done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, timeout=seconds, check=False, **streams)
    except FileNotFoundError:
        hint = " ".join(str(program.get("installHint") or "").split())
        raise _failed(command, "there is no such program" + (f": {hint}" if hint else "")) from None
    except subprocess.TimeoutExpired:
        raise _failed(command, f"it has not ended within {seconds:.0f} s") from None
    except OSError as error:
        raise _failed(command, error.strerror or type(error).__name__) from None
    if done.returncode:
        raise _failed(command, f"exit code {done.returncode}{_last_line(done.stderr)}")
    return _status(command, done)


def _exec_info(program: _Entry, cluster: _Entry, person: bool) -> str:
    told = {key: cluster[key] for key in ("server", "tls-server-name", "certificate-authority-data") if key in cluster}
    spec = {"interactive": person} | ({"cluster": told} if program.get("provideClusterInfo") else {})
    version = str(program.get("apiVersion") or LEGACY)
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec})


def _status(command: str, done: subprocess.CompletedProcess[bytes]) -> _Entry:
    try:
        status = json.loads(done.stdout)["status"]
        usable = bool(status.get("token") or status.get("clientCertificateData"))
    except (ValueError, KeyError, TypeError, AttributeError):
        usable = False
    if not usable:  # what it has written instead may be half of a credential
        raise _failed(command, f"what it writes to stdout is no ExecCredential with a token{_last_line(done.stderr)}")
    found: _Entry = status
    return found


def _last_line(text: bytes | None) -> str:
    lines = [line.strip() for line in (text or b"").decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:500]}" if lines else ""


def _failed(command: str, why: str) -> LoginFailed:
    return LoginFailed(f"the login program {command!r} of your kubeconfig failed: {why}")


def _end(command: str, said: _Entry) -> float:
    """Return until when a credential holds, in seconds since 1970."""
    end = said.get("expirationTimestamp")
    if not end:
        return float("inf")
    try:
        time_of_end = datetime.fromisoformat(str(end))
    except ValueError:
        raise _failed(command, "its expirationTimestamp is no time") from None
    return (time_of_end if time_of_end.tzinfo else time_of_end.replace(tzinfo=UTC)).timestamp() - EARLY_SECONDS
