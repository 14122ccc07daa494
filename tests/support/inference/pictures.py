"""Pictures as they are sent, also such as nobody should send."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (5, 3)) -> bytes:
    """Return a picture of one colour: red 10, green 200, blue 90."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8) + np.array([10, 200, 90], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Return the beginning of a picture that says that it is large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0\0\0\xffIDAT"
