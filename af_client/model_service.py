"""The port to a session's model service: one request, and what its answer means. No other file knows its HTTP."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import RawIOBase
from typing import TYPE_CHECKING, Any

from af_client.errors import BadInput, ModelRefused, ModelsUnavailable

if TYPE_CHECKING:  # 0.2 s, which `af --help` must not pay
    import urllib3

URL, TOKEN = "AF_INFERENCE_URL", "AF_INFERENCE_TOKEN"
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
RETRIES = 8
"""With the pauses between them, some twenty seconds: a service that starts again is back by then."""
RETRY_AFTER_SECONDS = 30
FULL = (429, 503)


@dataclass(frozen=True)
class Address:
    """Where a model service is, and what lets one in.

    Raises
    ------
    BadInput
        Where it was not given, and the environment has none.
    """

    url: str
    token: str = field(repr=False)

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> Address:
        """Return that of the session around this process."""
        if not environ.get(URL):
            raise BadInput(
                "there is no model service here: `spec.inference` of a session asks for one; or give url and token"
            )
        return cls(environ[URL], environ.get(TOKEN, ""))


@dataclass(frozen=True)
class Question:
    """A request.

    Attributes
    ----------
    repeatable
        It may be asked again though it may have been answered; if not, only while it was certainly not.
    seconds
        How long an answer may take.
    """

    verb: str
    path: str
    body: bytes | RawIOBase | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    seconds: float = ANSWER_SECONDS


@dataclass(frozen=True)
class Reply:
    """A good answer."""

    content: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        """Return what it says.

        Raises
        ------
        ModelRefused
            It is no JSON.
        """
        try:
            return json.loads(self.content)
        except ValueError as error:
            raise ModelRefused("this is no answer of a model service: is its URL right?") from error


class ModelService:
    """Connections to a service, kept open, shared by threads, and made anew in a process that was forked.

    Without an address it is that of the session around this process.
    """

    def __init__(self, address: Address | None, connections: int) -> None:
        self._address = address
        self._connections = connections
        self._pool: tuple[int, urllib3.PoolManager] | None = None

    def ask(self, question: Question) -> Reply:
        """Return the answer; a service that is full, starts, or has closed the connection is asked again.

        Raises
        ------
        ModelRefused
            It says no, in its own words.
        ModelsUnavailable
            It does not answer, or is still full.
        """
        import urllib3  # noqa: PLC0415 - see above

        address = self._address or Address.here()
        try:
            response = self._http().request(
                question.verb,
                address.url.rstrip("/") + question.path,
                body=question.body,
                headers={"Authorization": f"Bearer {address.token}", **question.headers},
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=question.seconds),
                retries=_retries(question.repeatable),
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise ModelsUnavailable(
                f"the model service at {address.url} does not answer: {reason(error)}: "
                "`af status SESSION` says how it is"
            ) from error
        if response.status >= 300:
            raise _refusal(response.status, response.data)
        return Reply(response.data, response.headers)

    def _http(self) -> urllib3.PoolManager:
        import urllib3  # noqa: PLC0415 - see above

        mine, pool = os.getpid(), self._pool
        if pool is None or pool[0] != mine:  # two processes on one connection would read each other's answers
            pool = self._pool = mine, urllib3.PoolManager(maxsize=self._connections)
        return pool[1]


def _retries(repeatable: bool) -> urllib3.Retry:
    import urllib3  # noqa: PLC0415 - see above

    return urllib3.Retry(
        total=RETRIES,
        read=None if repeatable else 0,
        other=None if repeatable else 0,
        allowed_methods=None,
        status_forcelist=FULL,
        backoff_factor=0.2,
        backoff_max=5.0,
        backoff_jitter=0.2,
        retry_after_max=RETRY_AFTER_SECONDS,
        raise_on_status=False,
    )


def reason(error: Exception) -> str:
    """Return in few words why urllib3 has no answer."""
    cause = getattr(error, "reason", None) or error
    return str(cause).rpartition(": ")[2] if str(cause) else type(cause).__name__


def _refusal(status: int, content: bytes) -> ModelRefused | ModelsUnavailable:
    try:
        said = str(json.loads(content)["error"]).strip()
    except (ValueError, KeyError, TypeError):
        said = " ".join(content.decode("utf-8", "replace").split())[:500]
    if status in FULL:
        return ModelsUnavailable(f"the model service cannot answer now ({status}): {said or 'it is full'}: try again")
    if status == 401:
        return ModelRefused(f"the model service does not take the token in {TOKEN} (401): {said}")
    return ModelRefused(said or f"the model service refuses ({status})")
