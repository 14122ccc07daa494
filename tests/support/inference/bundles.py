"""What is uploaded: tar archives and forms, also such as nobody should send."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

import onnx

BOUNDARY = "boundary-of-the-tests"


def tar(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of regular files."""
    return tar_of(member(name, content) for name, content in files.items())


def gzipped(files: Mapping[str, bytes]) -> bytes:
    """Return a tar.gz of regular files."""
    return gzip.compress(tar(files))


def bundle(model: onnx.ModelProto, name: str = "net", **params: Any) -> bytes:
    """Return the archive of an ONNX model, as `af models push` sends it."""
    said = json.dumps({"name": name, **params}).encode()
    return tar({f"{name}/model.onnx": model.SerializeToString(), f"{name}/params.json": said})


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    """Return one member of an archive, of any type."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


def tar_of(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return an archive of these members, whatever they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def form(fields: Mapping[str, str], files: Mapping[str, tuple[str, bytes]]) -> tuple[bytes, dict[str, str]]:
    """Return a multipart form, and the header that goes with it."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [
        f'Content-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'.encode() + content
        for name, (file, content) in files.items()
    ]
    body = b"".join(b"--%s\r\n%s\r\n" % (BOUNDARY.encode(), part) for part in parts) + f"--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
