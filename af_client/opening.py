"""What a session serves, at a port of one's own machine: ``af open`` its notebook, ``af models`` its models.

``af dask`` its Dask: see ``open_dask``.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from af_client.errors import BadInput, Forbidden, NotFound, NotReady
from af_client.forward import HOST, PortForward, Say
from af_client.model import Session
from af_client.models import Models
from af_client.progress import explain
from af_client.transport import Transport
from af_kube.request import Request
from af_names import INFERENCE_PORT, INFERENCE_TOKEN, NOTEBOOK_PORT, inference, inference_pod, notebook, notebook_pod


@dataclass(frozen=True)
class Server:
    """One that a session brings.

    Attributes
    ----------
    noun
        What it is to its user.
    component
        Its section of the spec; its condition is ``<Component>Ready``.
    port
        Of the pod.
    key
        Of its token in its Secret.
    """

    noun: str
    component: str
    port: int
    key: str
    name: Callable[[str], str]
    """Session -> name of its Secret, and of the Role with the right to it."""
    pod: Callable[[Session], str]
    """Session -> name of the pod that serves."""
    files: tuple[str, ...] = ()
    """More keys of the Secret, which a client needs."""


NOTEBOOK = Server(
    "notebook", "notebook", NOTEBOOK_PORT, "JUPYTER_TOKEN", notebook, lambda session: notebook_pod(session.name)
)
MODELS = Server(
    "model service",
    "inference",
    INFERENCE_PORT,
    INFERENCE_TOKEN,
    inference,
    lambda session: inference_pod(session.name),
)


def openable(session: Session, server: Server = NOTEBOOK) -> bool:
    """Return whether there is nothing to wait for: the server is ready, or there will be none.

    Raises
    ------
    BadInput
        The session has no such server.
    NotReady
        It is suspended, or has ended.
    """
    name, noun = session.name, server.noun
    if not session.has(server.component):
        says = server is NOTEBOOK and session.headless
        hint = f"`af logs {name}` shows what its run says" if says else f"`spec.{server.component}: {{}}` asks for one"
        raise BadInput(f"session {name} has no {noun}: {hint}")
    if session.suspended:
        raise NotReady(f"session {name} is suspended: `af resume {name}` brings its {noun} back")
    if session.ended:
        raise NotReady(f"session {name} has no {noun} any more: " + "; ".join(explain(session)))
    return session.serves(server.component)


class Opened:
    """A server at a port of this machine, as long as the context lasts; the server itself goes on.

    Attributes
    ----------
    port
        Of this machine.
    token
        What the server lets in.
    """

    server: Server

    def __init__(self, api: Transport, session: Session, port: int = 0, say: Say = lambda _: None) -> None:
        self._api = api
        self._session = session
        self._name = self.server.name(session.name)
        self._over = threading.Event()
        self._forward = self._to(self.server.port, port, say)

    def __enter__(self) -> Self:
        try:
            self._secret = self._read_secret()
            self.token = self._secret[self.server.key]
            self._forward.__enter__()
        except Forbidden as error:
            raise Forbidden(self._whose(str(error))) from error
        self.port = self._forward.port
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._forward.__exit__()

    def wait(self) -> None:
        """Return when the context ends, which is never in the thread that has it: Ctrl-C."""
        self._over.wait()

    def _to(self, port: int, here: int, say: Say) -> PortForward:
        """Return a port of this machine that is one of the pod's, once it is entered."""
        return PortForward(lambda: self._api.websocket(self._connection(port)), here, self._explained(say))

    def _connection(self, port: int) -> Request:
        pod = f"/api/v1/namespaces/{self._session.namespace}/pods/{self.server.pod(self._session)}"
        return Request("GET", f"{pod}/portforward", {"ports": str(port)})

    def _read_secret(self) -> Mapping[str, str]:
        path = f"/api/v1/namespaces/{self._session.namespace}/secrets/{self._name}"
        try:
            data = self._api.call(Request("GET", path))["data"]
            return {key: base64.b64decode(data[key]).decode() for key in (self.server.key, *self.server.files)}
        except (NotFound, KeyError) as error:
            name = self._session.name
            raise NotReady(f"Secret {self._name} has no token yet: try again, or see `af status {name}`") from error

    def _whose(self, said: str) -> str:
        session = self._session
        rights = f"Role {self._name} in namespace {session.namespace} gives the right to it to them alone"
        return f"the {self.server.noun} of session {session.name} is {session.user}'s: {rights} ({said})"

    def _explained(self, say: Say) -> Say:
        name, noun = self._session.name, self.server.noun
        return lambda text: say(f"the {noun} does not answer: {text}: `af status {name}` may say why")


class OpenNotebook(Opened):
    """A notebook at a port of this machine.

    Attributes
    ----------
    url
        Base URL of the server, ending in ``/``; its API is at ``<url>api``.
    lab
        URL of JupyterLab, with the token: for a browser.
    token
        ``Authorization: token …``.
    """

    server = NOTEBOOK

    def __enter__(self) -> Self:
        super().__enter__()
        self.url = f"http://{HOST}:{self.port}{urlsplit(self._session.endpoints['notebook']).path}"
        self.lab = f"{self.url}lab?{urlencode({'token': self.token})}"
        return self

    def report(self) -> Mapping[str, Any]:
        """Return what programs need."""
        return {"url": self.url, "lab": self.lab, "token": self.token, "port": self.port, "pid": os.getpid()}


class OpenModels(Opened):
    """A session's model service at a port of this machine.

    Attributes
    ----------
    models
        What asks it.
    """

    server = MODELS

    def __enter__(self) -> Self:
        super().__enter__()
        self.models = Models(f"http://{HOST}:{self.port}", self.token)
        return self
