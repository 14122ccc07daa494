"""Wheels without a network: the smallest that pip installs."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping


def wheel(name: str, version: str, files: Mapping[str, str]) -> tuple[str, bytes]:
    """Return the file name and the content of a wheel with these files."""
    info = f"{name}-{version}.dist-info"
    all_files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*all_files, f"{info}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in {**all_files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return f"{name}-{version}-py3-none-any.whl", content.getvalue()


def writing(path: str, content: bytes) -> str:
    """Return Python that writes a file."""
    return (
        f"import base64, pathlib; pathlib.Path({path!r}).write_bytes(base64.b64decode({base64.b64encode(content)!r}))"
    )
