"""The exception tree: what a pass over a session can meet, and what it means for the session.

``cluster.py`` maps every client error to one of these, once; nobody else sees an HTTP status.
"""

from __future__ import annotations


class OperatorError(Exception):
    """Root of everything this operator raises on purpose."""


class InvalidSession(OperatorError):
    """The spec does not fit its profile. Not retried until the generation or the profile changes.

    Parameters
    ----------
    reason
        CamelCase constant for the ``Accepted`` condition, e.g. ``UnknownImage``.
    message
        What to write instead, for the session's author.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ClusterError(OperatorError):
    """The API server did not do what was asked."""


class Refused(ClusterError):
    """403, 422, quota, admission: the server's words belong in a condition; long backoff."""


class NameConflict(ClusterError):
    """A child's name is taken by an object that this session does not own. Never adopted, never touched."""


class OurBug(ClusterError):
    """The server says our object cannot exist (undeclared field, strict decoding). Retrying fast will not help."""


class Gone(ClusterError):
    """The object (or its owner) no longer exists: for a delete or a status write, that is success."""


class Unavailable(ClusterError):
    """429, 5xx, time-outs, broken connections: the status is left alone and the pass is tried again.

    Parameters
    ----------
    retry_after
        Seconds the server asked us to wait, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
