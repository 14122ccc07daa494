"""Dask's progress bar draws itself anew ten times a second, which only a terminal can show. In a log it is silent.

A program may not know that it has one: ROOT's RDataFrame shows it for each event loop. A preload of
`Client`, by the image's ``dask/client.yaml``. A notebook's bar is another class.
"""

from __future__ import annotations

import sys
from typing import Any

from distributed.diagnostics import progressbar


class LogProgressBar(progressbar.TextProgressBar):
    """Waits for the futures as its parent does, and draws nothing."""

    def _draw_bar(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _draw_stop(self, **kwargs: Any) -> None:
        pass


def dask_setup(client: Any) -> None:
    """Have `distributed.progress` take this bar, unless somebody sees it move."""
    if not sys.stdout.isatty():
        progressbar.TextProgressBar = LogProgressBar
