"""Shows what is going on and how long it took: a spinner on a terminal, plain lines elsewhere."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from local_cluster.errors import ClusterError

# CI systems end jobs that are silent for minutes.
HEARTBEAT_SECONDS = 30.0
FAILURE_TAIL_LINES = 25


class Progress:
    """Reports steps to one console; steps do not nest."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Say one line."""
        self.console.print(text, markup=False)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show ``what`` while the block runs, and its duration when it is done."""
        begin = time.monotonic()
        what = escape(what)
        try:
            if self.console.is_terminal:
                with self.console.status(what):
                    yield
            else:
                yield
        except BaseException:
            self.console.print(f"[red]✗[/red] {what} [dim]({time.monotonic() - begin:.1f} s)[/dim]")
            raise
        self.console.print(f"[green]✓[/green] {what} [dim]({time.monotonic() - begin:.1f} s)[/dim]")

    def run(
        self,
        what: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Run a long command as one step, its output in ``log``; on failure the log's tail is in the error."""
        log.parent.mkdir(parents=True, exist_ok=True)
        if not self.console.is_terminal:
            self.note(f"… {what}")
        with self.step(what), log.open("wb") as out:
            with subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=cwd) as process:
                self._await(process, what)
            if process.returncode:
                raise ClusterError(f"{what}: failed (exit code {process.returncode}), log {log}:\n{tail(log)}")

    def _await(self, process: subprocess.Popen[bytes], what: str) -> None:
        begin = time.monotonic()
        while True:
            try:
                process.wait(HEARTBEAT_SECONDS)
            except subprocess.TimeoutExpired:
                if not self.console.is_terminal:
                    self.note(f"… {what}: {time.monotonic() - begin:.0f} s so far")
            except BaseException:
                process.terminate()
                raise
            else:
                return


def tail(log: Path, lines: int = FAILURE_TAIL_LINES) -> str:
    """Return the last lines of a log, or say that there is none."""
    if not log.exists():
        return f"(no log at {log})"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
