"""What a request can meet, as both protocols say it: an HTTP status, and words that name the next step."""

from __future__ import annotations


class Problem(Exception):
    """An answer that is no result.

    Attributes
    ----------
    status
        HTTP status; gRPC's code is derived from it.
    retry_after
        Seconds after which to ask again, where that helps.
    """

    status = 500
    retry_after: int | None = None


class Invalid(Problem):
    """The request is not understood, or does not fit the model."""

    status = 400


class Unauthorized(Problem):
    """No token, or another one."""

    status = 401


class Forbidden(Problem):
    """What this service does not allow."""

    status = 403


class NotFound(Problem):
    """There is no such model, version or route."""

    status = 404


class Conflict(Problem):
    """It exists, and does not change."""

    status = 409


class TooLarge(Problem):
    """More bytes or rows than this service takes at once."""

    status = 413


class Unsupported(Problem):
    """An encoding that is not taken."""

    status = 415


class Unprocessable(Problem):
    """Understood, and yet there is no result: a model that cannot be served, an answer that JSON cannot hold."""

    status = 422


class TooMany(Problem):
    """The model's queue is full."""

    status = 429
    retry_after = 1


class Failed(Problem):
    """The model failed on what it was given."""

    status = 500


class Unavailable(Problem):
    """Not now: what answers is not there yet, or not any more."""

    status = 503
    retry_after = 1


class Full(Problem):
    """There is no room for more models."""

    status = 507


def of_status(status: int) -> type[Problem]:
    """Return the problem that a status stands for, of those that what was uploaded can cause."""
    return {problem.status: problem for problem in (Invalid, TooLarge, Unsupported, Full)}.get(status, Unprocessable)
