"""Where the modules of one's own are: beside the script, or where a notebook works."""

from __future__ import annotations

import sys
from pathlib import Path


def own_directory() -> Path | None:
    """Return the script's directory, or where a notebook is; None where that is Python's own."""
    # Python has the script's first; IPython has "", where it works, behind the standard library.
    directory = Path("" if "" in sys.path or not sys.path else sys.path[0]).resolve()
    of_python = any(directory.is_relative_to(Path(prefix).resolve()) for prefix in (sys.prefix, sys.base_prefix))
    return None if of_python or not directory.is_dir() else directory
