"""What others wrote, on its way to a person's terminal. A file or a pipe gets it as it is."""

from __future__ import annotations

from typing import TextIO

from af_names import plain


def shown(text: str, stream: TextIO) -> str:
    """Return text of many lines as it may be written to a stream: plain (``af_names.plain``) if that is a terminal."""
    return plain.lines(text) if stream.isatty() else text
