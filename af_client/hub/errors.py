"""Why a server was not started, as JupyterHub shows it: the reason, and the next step."""

from __future__ import annotations

from html import escape

from jupyterhub.spawner import SpawnException

from af_client.errors import ApiError, ClientError, Forbidden, Invalid, NotFound


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
    """

    def __init__(self, why: str, next_step: str, *, reason: str, status_code: int = 400) -> None:
        text = f"{why}. Next: {next_step}."
        html = f"<p>{escape(why)}.</p><p><strong>Next:</strong> {escape(next_step)}.</p>"
        super().__init__(text, reason=reason, message_html=html, status_code=status_code)
        # The page of a failed start shows only what has these names.
        self.jupyterhub_message = text
        self.jupyterhub_html_message = html


def bad_option(message: str) -> NotStarted:
    """Return the error for a choice that is not offered."""
    return NotStarted(message, "choose again", reason="bad-option")


def from_client(error: ClientError, namespace: str) -> NotStarted:
    """Return the error for what the API server said."""
    text = str(error)
    if isinstance(error, NotFound) and "namespace" in text:
        return NotStarted(
            f"there is no namespace {namespace!r} in the cluster",
            f"ask your facility's admin to create it: kubectl create namespace {namespace}",
            reason="no-namespace",
            status_code=503,
        )
    if isinstance(error, Forbidden):
        return NotStarted(
            f"the cluster does not let JupyterHub do this in namespace {namespace!r}: {text}",
            "ask your facility's admin for room there (quota, policy), or to give JupyterHub's service account "
            "its role in this namespace",
            reason="forbidden",
            status_code=403,
        )
    if isinstance(error, Invalid):
        return NotStarted(text, "choose again", reason="invalid")
    if isinstance(error, ApiError):
        return NotStarted(text, "try again in a moment", reason="api-server", status_code=503)
    return NotStarted(
        f"the cluster's API server does not answer JupyterHub: {text}",
        "try again in a moment; if this stays so, tell your facility's admin",
        reason="api-server",
        status_code=503,
    )
