"""What can come of a request. Whoever asks for people turns these into words for them."""

from __future__ import annotations

TEST_FAILED = "the server rejected our request due to an error in our request"
"""The words of a 422 where a test of a JSON patch has failed: it names nothing else."""


class KubeError(Exception):
    """Root: the API server was not asked, did not answer, or said no."""

    retry_after: float | None = None
    """Seconds that the server asked us to wait, if it did."""


class NoCredentials(KubeError):
    """Neither a service account nor a kubeconfig that works."""


class LoginFailed(NoCredentials):
    """The login program that a kubeconfig names did not do its work."""


class NoSuchContext(NoCredentials):
    """The kubeconfig has no context of this name."""


class Unreachable(KubeError):
    """No answer, or one that broke off, or one that no API server gives."""


class HttpError(KubeError):
    """An answer that is no success.

    Parameters
    ----------
    status
        Of HTTP.
    text
        The body: a ``Status`` object in JSON, or any text.
    """

    def __init__(self, status: int, text: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {text[:500]}")
        self.status = status
        self.text = text
        self.retry_after = retry_after


class Expired(KubeError):
    """410: a resource version or the next page of a list is too old; list anew."""
