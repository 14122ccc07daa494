"""The one mapping from HTTP answers to errors."""

from __future__ import annotations

import json

import pytest

from af_operator.cluster import error_of
from af_operator.errors import Gone, OurBug, Refused, Unavailable


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (403, 'pods "x" is forbidden: exceeded quota: q, requested: pods=1', Refused),
        (403, "violates PodSecurity", Refused),
        (422, "spec.template: field is immutable", Refused),
        (403, "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion", Unavailable),
        (404, 'namespaces "x" not found', Gone),
        (410, "gone", Gone),
        (409, "the object has been modified", Unavailable),
        (401, "Unauthorized", Unavailable),
        (429, "slow down", Unavailable),
        (500, "etcd leader changed", Unavailable),
        (503, "apiserver is shutting down", Unavailable),
        (500, ".spec.foo: field not declared in schema", OurBug),
        (400, 'strict decoding error: unknown field "spec.foo"', OurBug),
        (415, "unsupported media type", OurBug),
    ],
)
def test_each_answer_has_its_meaning(code: int, message: str, error: type[Exception]) -> None:
    found = error_of(code, json.dumps({"message": message}).encode())
    assert type(found) is error
    assert message in str(found)


def test_retry_after_is_obeyed() -> None:
    found = error_of(429, b"not json", 7)
    assert isinstance(found, Unavailable)
    assert found.retry_after == 7
