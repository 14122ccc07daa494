"""Starlette's responses as all routes here give them."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from af_inference.errors import Problem


class Json(Response):
    """An answer in JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return orjson.dumps(content)


def problem_response(problem: Problem, status: int | None = None) -> Response:
    """Answer with what went wrong, in words that say what to do."""
    headers = {} if problem.retry_after is None else {"retry-after": str(problem.retry_after)}
    return Json({"error": str(problem)}, status or problem.status, headers)
