"""TFaaS' other way to upload: a multipart form with the files one by one."""

import binascii
import shutil
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from python_multipart import parse_form
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File

from af_inference.convert.formats import FILES, SUFFIXES
from af_inference.errors import Invalid, TooLarge

PARTS = 100
CHUNK = 1 << 20
# Name of the part -> name of the file; what else is sent is not ours: `op` of upstream's server, fields of its client.
NAMES = {"params": "params.json", "labels": "labels.txt", "sample": "sample.npz"}


class _Parts:
    """What a form has brought so far."""

    def __init__(self, encoding: str, target: Path) -> None:
        self.name: str | None = None
        self._base64 = encoding.strip().lower() == "base64"
        self._target, self._count = target, 0

    def field(self, field: Field) -> None:
        """Take the value of a field."""
        self._one_more()
        if field.field_name == b"name" and field.value is not None:
            self.name = field.value.decode(errors="replace")

    def file(self, file: File) -> None:
        """Take a file."""
        self._one_more()
        part = (file.field_name or b"").decode(errors="replace")
        name = _model(file) if part == "model" else NAMES.get(part)
        if name is None:
            return
        write = _decode if part == "model" and self._base64 else shutil.copyfileobj
        try:
            with file.file_object as stream, (self._target / name).open("xb") as copy:
                stream.seek(0)
                write(stream, copy)
        except FileExistsError:
            raise Invalid(f"the form has the part {part} twice") from None

    def _one_more(self) -> None:
        self._count += 1
        if self._count > PARTS:
            raise TooLarge(f"the form has more than {PARTS} parts")


def unpack(body: Path, content_type: str, encoding: str, target: Path) -> str | None:
    """Take the files out of a form.

    Parameters
    ----------
    content_type
        Of the request, with the boundary.
    encoding
        Of the request: ``base64`` says it of the part ``model``, line by line.

    Returns
    -------
    str or None
        What the field ``name`` says.

    Raises
    ------
    Invalid, TooLarge
        It is no such form, has a part twice, or too many.
    """
    parts = _Parts(encoding, target)
    try:
        with body.open("rb") as stream:
            parse_form({"Content-Type": content_type.encode()}, stream, parts.field, parts.file)
    except (FormParserError, binascii.Error) as error:
        raise Invalid(f"the body is no multipart form: {error}") from None
    return parts.name


def _model(file: File) -> str:
    """Return the name that its format has here; what is in none keeps its own, of which its user is told."""
    own = PurePosixPath((file.file_name or b"").decode(errors="replace").replace("\\", "/")).name
    kind = SUFFIXES.get(PurePosixPath(own).suffix)
    return next((name for name, stands_for in FILES.items() if stands_for == kind), own or "model")


def _decode(stream: BinaryIO, copy: BinaryIO) -> None:
    rest = b""
    while chunk := stream.read(CHUNK):
        letters = rest + b"".join(chunk.split())
        whole = len(letters) - len(letters) % 4
        copy.write(binascii.a2b_base64(letters[:whole]))
        rest = letters[whole:]
    if rest:
        raise Invalid("the part model ends within base64")
