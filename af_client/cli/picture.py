"""The live picture of a session on a terminal: its parts, and its pools as bars. Pure: a status in, a grid out."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from af_client.model import Pool, Session
from af_client.progress import parts, troubles
from af_names import plain


def picture(session: Session, elapsed: float) -> RenderableType:
    """Return the live picture for a terminal."""
    grid = Table.grid(padding=(0, 2))
    for condition in parts(session):
        mark = Text("✓", "green") if condition.status else Text("…", "yellow")
        said = "" if condition.status else plain.line(condition.message or condition.reason)
        grid.add_row(mark, condition.type.removesuffix("Ready"), Text(said, "dim", overflow="fold"))
    for condition in troubles(session):
        grid.add_row(Text("!", "red"), condition.type, Text(plain.line(condition.message), "red", overflow="fold"))
    for pool in session.pools:
        done = pool.ready >= pool.desired
        grid.add_row("", f"{pool.component}/{pool.name}", _bar(pool, "green" if done else "yellow"))
    head = Text.assemble((session.name, "bold"), f"  {session.phase or 'waiting for the operator'}  {elapsed:.0f} s")
    return Group(head, grid)


def _bar(pool: Pool, style: str) -> Text:
    width = min(pool.desired, 20)
    full = round(width * pool.ready / pool.desired) if pool.desired else 0
    return Text.assemble(("█" * full, style), ("░" * (width - full), "dim"), f" {pool.ready}/{pool.desired} workers")
