"""What can go wrong on the user's side. Every message names the next step."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from af_kube import errors as kube
from af_names import plain

_Status = dict[str, Any]
GROUP = "analysisfacility.io"
MOST_NAMED = 20


class ClientError(Exception):
    """Root of what the client raises on purpose; `exit_code` is what ``af`` ends with."""

    exit_code = 1


class BadInput(ClientError):
    """A file, an option or a spec that cannot be used as it is."""

    exit_code = 2


class StorageError(ClientError):
    """The storage did not do what was asked."""


class ResultsError(ClientError):
    """There are no results, they are incomplete, or they are not what their manifest says."""


class NoCluster(ClientError, kube.NoCredentials):
    """No kubeconfig, or none that works."""


class Unreachable(ClientError, kube.Unreachable):
    """The API server does not answer."""


class ResultsIncomplete(ResultsError):
    """Some files could not be stored or fetched; the others are there.

    Attributes
    ----------
    files
        Those that are.
    missing
        (name, why) of those that are not.
    """

    exit_code = os.EX_IOERR

    def __init__(self, message: str, files: Sequence[Any], missing: Sequence[tuple[str, str]]) -> None:
        lines = [f"  {plain.line(name)}: {plain.line(why)}" for name, why in missing[:MOST_NAMED]]
        more = [f"  and {len(missing) - MOST_NAMED} more"] if len(missing) > MOST_NAMED else []
        super().__init__("\n".join([f"{message}; missing:", *lines, *more]))
        self.files = files
        self.missing = missing


class ApiError(ClientError, kube.KubeError):
    """The API server said no; `said` are its own words, without a next step for who is at a command line."""

    said = ""


class NotLoggedIn(ApiError):
    """401."""


class Forbidden(ApiError):
    """403: a right is missing, or an admission rule refuses."""


class NotFound(ApiError):
    """404: no such object."""


class KindNotInstalled(ApiError):
    """404: the cluster does not know the kind."""


class NameTaken(ApiError):
    """409 on create."""


class Invalid(ApiError):
    """422 or 400: the object is wrong; one line for each cause."""

    exit_code = 2


class Expired(ApiError, kube.Expired):
    """410: a watch must start again."""


class Unavailable(ApiError):
    """429 or 5xx: try again."""


class ModelRefused(ClientError):
    """The session's model service said no: no such model, or it does not take what was sent."""


class ModelsUnavailable(ClientError):
    """The session's model service does not answer, or is full."""


class NotConvertible(BadInput):
    """A model that cannot be converted, or that answers otherwise once it is."""


class NotAccepted(ClientError):
    """The spec is stored, and does not fit the session's profile."""

    exit_code = 2


class NotReady(ClientError):
    """The session is not, and will not be by itself, in the state that this needs."""


class TimedOut(ClientError):
    """The time given to wait is over."""

    exit_code = 124


def from_kube(error: kube.KubeError) -> ClientError:
    """Return what is to be told of an error that was raised below the client."""
    if isinstance(error, ClientError):
        return error
    if isinstance(error, kube.NoSuchContext):
        return BadInput(str(error))
    found = _from_kube(error)
    found.retry_after = error.retry_after
    return found


def _from_kube(error: kube.KubeError) -> NoCluster | Unreachable | ApiError:
    match error:
        case kube.HttpError(status=status, text=text):
            return from_response(status, text)
        case kube.Expired():
            return from_response(410, str(error))
        case kube.NoCredentials():
            return NoCluster(str(error))
        case _:
            return Unreachable(f"the API server does not answer: {error}")


def from_response(code: int, text: str) -> ApiError:
    """Return the error for an answer of the API server.

    Parameters
    ----------
    code
        HTTP status.
    text
        The body: a ``Status`` object in JSON, or any text.
    """
    status = _status(text)
    message = str(status.get("message") or " ".join(text.split())[:500] or f"HTTP {code}")
    error = _from_answer(code, status, message)
    error.said = message
    return error


def _from_answer(code: int, status: _Status, message: str) -> ApiError:
    if code >= 500:
        return _unavailable(status, f"{message} ({code})")
    if code in _BY_CODE:
        return _BY_CODE[code](status, message)
    return ApiError(f"the API server refuses ({code}): {message}")


def _status(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def not_logged_in() -> NotLoggedIn:
    """Return the error for a 401, whatever was asked."""
    return NotLoggedIn("the API server does not know you (401): log in again, or check your kubeconfig")


def _unavailable(_status: _Status, message: str) -> ApiError:
    return Unavailable(f"the API server cannot answer now: {message}: try again in a moment")


def _expired(_status: _Status, message: str) -> ApiError:
    return Expired(message)


def _conflict(status: _Status, message: str) -> ApiError:
    if "in precondition" in message:
        return NotFound("the session is gone, and another one has its name")
    if status.get("reason") != "AlreadyExists":
        return ApiError(f"the API server refuses: {message}")
    name = status.get("details", {}).get("name", "")
    return NameTaken(f"a session {name!r} exists already: `af delete {name}`, or give another --name")


_RIGHT = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]*)"'
    r'(?: in API group "[^"]*")?(?: in the namespace "(?P<namespace>[^"]*)")?(?P<scope> at the cluster scope)?'
)

_POLICY = re.compile(r"^.* is forbidden: (ValidatingAdmissionPolicy '[^']*') with binding '[^']*' denied request(?=: )")


def _forbidden(_status: _Status, message: str) -> ApiError:
    right = _RIGHT.search(message)
    if not right:
        # Of a policy, its own words: which binding of it refused which object is no news to a user.
        return Forbidden("the cluster refuses (403): " + _POLICY.sub(r"\1", message))
    where = f"in namespace {right['namespace']!r}" if right["namespace"] else "in all namespaces"
    return Forbidden(
        f"you ({right['user']}) may not {right['verb']} {right['resource']} {where}: "
        "choose another namespace with -n, or ask your facility's admin for this right"
    )


def _missing(status: _Status, message: str) -> ApiError:
    details = status.get("details") or {}
    kind, name = details.get("kind"), details.get("name")
    if kind == "namespaces":
        return NotFound(f"there is no namespace {name!r}: choose another with -n")
    if name and kind == "analysissessions":
        return NotFound(f"there is no session {name!r} here: `af list` shows what there is; -n chooses the namespace")
    if name:
        return NotFound(f"{message}: `af list` shows what there is; -n chooses the namespace")
    return KindNotInstalled(
        f"this cluster does not know AnalysisSession ({GROUP}/v1alpha1): install the af-operator chart, "
        "or choose another cluster with --context"
    )


def _invalid(status: _Status, message: str) -> ApiError:
    causes = (status.get("details") or {}).get("causes") or []
    # The server also reports rules that it could not evaluate because of the real cause.
    said = [c for c in causes if "some validation rules were not checked" not in c.get("message", "")]
    lines = [f"  {_where(c)}{c.get('message', '')}" for c in said]
    if not lines:
        inner = message.rsplit("strict decoding error: ", maxsplit=1)[-1]
        lines = [f"  {part}" for part in inner.split(", ")]
    return Invalid("the API server refuses the session:\n" + "\n".join(dict.fromkeys(lines)))


def _where(cause: dict[str, Any]) -> str:
    field = cause.get("field", "")
    return f"{field}: " if field and field != "<nil>" else ""


_BY_CODE: dict[int, Callable[[_Status, str], ApiError]] = {
    400: _invalid,
    401: lambda _status, _message: not_logged_in(),
    403: _forbidden,
    404: _missing,
    409: _conflict,
    410: _expired,
    422: _invalid,
    429: _unavailable,
}
