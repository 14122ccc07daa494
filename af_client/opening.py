"""``af open``: a session's notebook at a port of one's own machine."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from af_client.errors import BadInput, Forbidden, NotFound, NotReady
from af_client.forward import HOST, PortForward, Say
from af_client.model import Session
from af_client.progress import explain
from af_client.transport import Transport
from af_kube.request import Request
from af_names import NOTEBOOK_PORT, notebook, notebook_pod

TOKEN = "JUPYTER_TOKEN"  # noqa: S105 - the name of a key


def openable(session: Session) -> bool:
    """Return whether there is nothing to wait for: the notebook is ready, or there will be none.

    Raises
    ------
    BadInput
        The session has no notebook.
    NotReady
        It is suspended, or has ended.
    """
    name = session.name
    if not session.has_notebook:
        hint = f"`af logs {name}` shows what its run says" if session.headless else "`spec.notebook: {}` asks for one"
        raise BadInput(f"session {name} has no notebook: {hint}")
    if session.suspended:
        raise NotReady(f"session {name} is suspended: `af resume {name}` brings its notebook back")
    if session.ended:
        raise NotReady(f"session {name} has no notebook any more: " + "; ".join(explain(session)))
    return session.notebook_ready


class OpenNotebook:
    """A notebook at a port of this machine, as long as the context lasts; the notebook itself goes on.

    Attributes
    ----------
    url
        Base URL of the server, ending in ``/``; its API is at ``<url>api``.
    lab
        URL of JupyterLab, with the token: for a browser.
    token
        What the server lets in: ``Authorization: token …``.
    """

    def __init__(self, api: Transport, session: Session, port: int = 0, say: Say = lambda _: None) -> None:
        self._api = api
        self._session = session
        self._name = notebook(session.name)
        self._over = threading.Event()
        self._forward = PortForward(lambda: api.websocket(self._connection()), port, self._explained(say))

    def __enter__(self) -> Self:
        try:
            self.token = self._read_token()
            self._forward.__enter__()
        except Forbidden as error:
            raise Forbidden(self._whose(str(error))) from error
        self.port = self._forward.port
        self.url = f"http://{HOST}:{self.port}{urlsplit(self._session.endpoints['notebook']).path}"
        self.lab = f"{self.url}lab?{urlencode({'token': self.token})}"
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._forward.__exit__()

    def wait(self) -> None:
        """Return when the context ends, which is never in the thread that has it: Ctrl-C."""
        self._over.wait()

    def report(self) -> Mapping[str, Any]:
        """Return what programs need."""
        return {"url": self.url, "lab": self.lab, "token": self.token, "port": self.port, "pid": os.getpid()}

    def _connection(self) -> Request:
        pod = f"/api/v1/namespaces/{self._session.namespace}/pods/{notebook_pod(self._session.name)}"
        return Request("GET", f"{pod}/portforward", {"ports": str(NOTEBOOK_PORT)})

    def _read_token(self) -> str:
        path = f"/api/v1/namespaces/{self._session.namespace}/secrets/{self._name}"
        try:
            return base64.b64decode(self._api.call(Request("GET", path))["data"][TOKEN]).decode()
        except (NotFound, KeyError) as error:
            name = self._session.name
            raise NotReady(f"Secret {self._name} has no token yet: try again, or see `af status {name}`") from error

    def _whose(self, said: str) -> str:
        session = self._session
        rights = f"Role {self._name} in namespace {session.namespace} gives the right to it to them alone"
        return f"the notebook of session {session.name} is {session.user}'s: {rights} ({said})"

    def _explained(self, say: Say) -> Say:
        return lambda text: say(f"the notebook does not answer: {text}: `af status {self._session.name}` may say why")
