"""Multipart forms of a few small parts, read in memory."""

from __future__ import annotations

import io
from typing import NamedTuple

from python_multipart import parse_form
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File

from af_inference.asgi import Receive, Scope, header, read_body
from af_inference.errors import Invalid, TooLarge

PARTS = 16


class Form(NamedTuple):
    """What a form brought.

    Attributes
    ----------
    files
        Names of files, and their bytes, by the names of their parts.
    """

    values: dict[str, str]
    files: dict[str, tuple[str, bytes]]


async def read(scope: Scope, receive: Receive, most: int) -> Form:
    """Return the form that a request brings.

    Raises
    ------
    Invalid, TooLarge
        It is none, or larger than it may be.
    """
    content_type = (header(scope, b"content-type") or b"").decode("latin-1")
    if "form-data" not in content_type.lower():
        raise Invalid("the body must be a multipart form: curl -F")
    return parse(content_type, await read_body(scope, receive, most))


def parse(content_type: str, body: bytes) -> Form:
    """Return the form in a body; see `read`."""
    form = Form({}, {})

    def field(found: Field) -> None:
        _check_count(form)
        form.values[_text(found.field_name)] = _text(found.value)

    def file(found: File) -> None:
        _check_count(form)
        with found.file_object as content:
            content.seek(0)
            form.files[_text(found.field_name)] = (_text(found.file_name), content.read())

    try:
        parse_form({"Content-Type": content_type.encode("latin-1")}, io.BytesIO(body), field, file)
    except FormParserError as error:
        raise Invalid(f"the body is no multipart form: {error}") from None
    return form


def _check_count(form: Form) -> None:
    if len(form.values) + len(form.files) >= PARTS:
        raise TooLarge(f"the form has more than {PARTS} parts")


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
