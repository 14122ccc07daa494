"""What a session serves, at a port of one's own machine: ``af open`` its notebook, ``af models`` its models."""

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
    pod: Callable[[str], str]


NOTEBOOK = Server("notebook", "notebook", NOTEBOOK_PORT, "JUPYTER_TOKEN", notebook, notebook_pod)
MODELS = Server("model service", "inference", INFERENCE_PORT, INFERENCE_TOKEN, inference, inference_pod)


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
        self._forward = PortForward(lambda: api.websocket(self._connection()), port, self._explained(say))

    def __enter__(self) -> Self:
        try:
            self.token = self._read_token()
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

    def _connection(self) -> Request:
        pod = f"/api/v1/namespaces/{self._session.namespace}/pods/{self.server.pod(self._session.name)}"
        return Request("GET", f"{pod}/portforward", {"ports": str(self.server.port)})

    def _read_token(self) -> str:
        path = f"/api/v1/namespaces/{self._session.namespace}/secrets/{self._name}"
        try:
            return base64.b64decode(self._api.call(Request("GET", path))["data"][self.server.key]).decode()
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
