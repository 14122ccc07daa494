"""Text that somebody else's program wrote, as plain text: it moves no cursor and turns nothing around. Pure.

A log, a message, a file's name: whoever wrote it may have put escape sequences into it, which a terminal obeys, or
characters that let it read otherwise than it is. Such characters are written as Python would write them (``\\x1b``).
"""

from __future__ import annotations

import re

# C0 and C1, zero-width and line separators, bidi marks and overrides, interlinear marks, surrogates, tags. The joiners
# of Arabic and Indic scripts (U+200C, U+200D) stay, and so do all kinds of spaces.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_RETURN = re.compile("\r\n?")
_BREAKING = "\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
_BREAKS = re.compile(f"[{_BREAKING}]+")


def lines(text: str) -> str:
    """Return text of many lines: colours are left out, and what overwrites a line begins a new one."""
    return _OBEYED.sub(_written, _RETURN.sub("\n", _COLOUR.sub("", text)))


def line(text: str) -> str:
    """Return text as one line: what would break it is a space."""
    return _OBEYED.sub(_written, _BREAKS.sub(" ", _COLOUR.sub("", text).strip(_BREAKING)))


def is_line(text: str) -> bool:
    """Return whether text is one line already, and nothing in it would have to be written otherwise."""
    return not _OBEYED.search(text) and not {"\n", "\t"} & set(text)


def _written(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
