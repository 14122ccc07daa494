"""What the commands share in how they read arguments and word suggestions."""

from __future__ import annotations

import re
from typing import Any

import click

WHERE = "af.where"
SUGGESTED = re.compile(r"\baf (delete|logs|open|results|resume|scale|status|suspend)\b(?! -n)")


def addressed(text: str, ctx: click.Context) -> str:
    """Return a text whose suggested commands go to where this command went."""
    return SUGGESTED.sub(rf"\g<0>{ctx.meta.get(WHERE, '')}", text)


class Workers(click.ParamType[tuple[int, int]]):
    """``4``, or ``0..8`` for an elastic pool."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (min, max)."""
        least, dots, most = str(value).partition("..")
        try:
            found = int(least), int(most if dots else least)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor a range such as 0..8", param, ctx)
        if not 0 <= found[0] <= found[1]:
            self.fail(f"{value!r}: write the smaller number first, and none below 0", param, ctx)
        return found
