"""Why a server was not started, as JupyterHub shows it: the reason, and the next step.

Whoever reads it has a browser, and perhaps nothing else: it names no command. What their admin needs is in the log.
"""

from __future__ import annotations

import re
from html import escape

from jupyterhub.spawner import SpawnException

from af_client.errors import ApiError, ClientError, Forbidden, Invalid, KindNotInstalled, NotFound, NotLoggedIn
from af_names import plain

ADMIN = "tell your facility's admin"
_QUOTA = re.compile(r"exceeded quota: .*")
_POLICY = re.compile(r"denied request: (.*)")
_RIGHT = re.compile(r"cannot \w+ resource")


class NotStarted(SpawnException):  # type: ignore[misc]  # JupyterHub has no types
    """A start that ends here. No crash: it does not count towards JupyterHub's ``consecutive_failure_limit``.

    Parameters
    ----------
    why
        What is so.
    next_step
        What to do about it.
    reason
        One word for JupyterHub's metrics.
    details
        What the Hub's log says besides.
    """

    def __init__(self, why: str, next_step: str, *, reason: str, status_code: int = 400, details: str = "") -> None:
        why = plain.line(why)
        text = f"{why}. Next: {next_step}."
        html = f"<p>{escape(why)}.</p><p><strong>Next:</strong> {escape(next_step)}.</p>"
        log = f"{text} ({plain.line(details)})" if details else text
        super().__init__(text, reason=reason, message_html=html, status_code=status_code, log_message=log)
        # The page of a failed start shows only what has these names.
        self.jupyterhub_message = text
        self.jupyterhub_html_message = html


class LinkShown(Exception):
    """A link's choices are shown in the form, and nothing has been started."""

    jupyterhub_message = None


def bad_option(message: str) -> NotStarted:
    """Return the error for a choice that is not offered."""
    return NotStarted(message, "choose again", reason="bad-option")


def from_client(error: ClientError, namespace: str) -> NotStarted:
    """Return the error for what the API server said."""
    if isinstance(error, Invalid):
        return _invalid(error)
    if isinstance(error, ApiError):
        why, next_step, reason, code = _refused(error, namespace)
        return NotStarted(why, next_step, reason=reason, status_code=code, details=error.said)
    return NotStarted(
        "the cluster's API server does not answer JupyterHub",
        f"try again in a moment; if this stays so, {ADMIN}",
        reason="api-server",
        status_code=503,
        details=str(error),
    )


def _refused(error: ApiError, namespace: str) -> tuple[str, str, str, int]:
    match error:
        case Forbidden():
            return _forbidden(error.said, namespace)
        case NotFound() if "namespaces" in error.said:
            why = f"there is no namespace {namespace!r} in the cluster, where your sessions are to be"
            return why, "ask your facility's admin to create it", "no-namespace", 503
        case NotFound():
            return "the session is there no more", "start again", "deleted", 409
        case KindNotInstalled():
            why = "the cluster does not know sessions"
            return why, f"{ADMIN}: the kinds of af-operator are not installed", "api-server", 503
        case NotLoggedIn():
            return "the cluster does not know JupyterHub", f"{ADMIN}", "api-server", 503
    why = f"the cluster cannot do this now: {error.said}" if error.said else "the cluster cannot do this now"
    return why, f"try again in a moment; if this stays so, {ADMIN}", "api-server", 503


def _forbidden(said: str, namespace: str) -> tuple[str, str, str, int]:
    if quota := _QUOTA.search(said):
        why = f"there is no room for it in namespace {namespace!r}: {quota[0]}"
        return why, "stop or delete a server that you do not need, or ask your facility's admin for room", "quota", 403
    if "being terminated" in said:
        return f"namespace {namespace!r}, where your sessions are, is being deleted", ADMIN, "no-namespace", 503
    if policy := _POLICY.search(said):
        return f"a rule of the facility refuses it: {policy[1]}", "ask your facility's admin", "forbidden", 403
    if _RIGHT.search(said):
        why = f"JupyterHub has no right to do this in namespace {namespace!r}"
        return why, "ask your facility's admin to give JupyterHub its role there", "forbidden", 403
    return f"the cluster refuses it: {said}", "ask your facility's admin", "forbidden", 403


def _invalid(error: Invalid) -> NotStarted:
    text = str(error)
    if "spec.user:" in text:
        why = "your name in JupyterHub cannot be the name of a session's user"
        return NotStarted(why, f"{ADMIN}, who chooses what names people have here", reason="bad-user", details=text)
    return NotStarted(text, "choose again", reason="invalid", details=error.said)
