"""No control character gets to a terminal, a page or an Event, whoever wrote it."""

from __future__ import annotations

import io
import unicodedata

import pytest

from af_client import terminal
from af_names import plain

EVERY = "".join(map(chr, range(0x110000)))
OBEYED = {"Cc", "Cs", "Zl", "Zp"}


def test_nothing_that_is_obeyed_is_left() -> None:
    for found, kept in ((plain.lines(EVERY), "\n\t"), (plain.line(EVERY), "")):
        left = {c for c in found if unicodedata.category(c) in OBEYED or unicodedata.bidirectional(c) in BIDI}
        assert left == set(kept)


BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    ("text", "lines", "line"),
    [
        ("Z → μμ: 91.2 GeV\u00a0± 0.1", "Z → μμ: 91.2 GeV\u00a0± 0.1", "Z → μμ: 91.2 GeV\u00a0± 0.1"),
        ("a\nb\n", "a\nb\n", "a b"),
        (" two  spaces ", " two  spaces ", " two  spaces "),
        ("a\r\nb", "a\nb", "a b"),
        ("10 %\r20 %", "10 %\n20 %", "10 % 20 %"),
        ("\x1b[31mred\x1b[0m", "red", "red"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("\x9b2J", "\\x9b2J", "\\x9b2J"),
        ("gpj\u202eexe", "gpj\\u202eexe", "gpj\\u202eexe"),
        ("a\u2028b", "a\\u2028b", "a b"),
        ("\ud800", "\\ud800", "\\ud800"),
        ("क्\u200dष", "क्\u200dष", "क्\u200dष"),
    ],
)
def test_what_becomes_of_text(text: str, lines: str, line: str) -> None:
    assert plain.lines(text) == lines
    assert plain.line(text) == line
    assert plain.lines(lines) == lines
    assert plain.line(line) == line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_a_terminal_is_spared() -> None:
    assert terminal.shown("\x1b[2J", Terminal()) == "\\x1b[2J"
    assert terminal.shown("\x1b[2J", io.StringIO()) == "\x1b[2J"
