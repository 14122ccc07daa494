"""What each Python of the image does before its program; by ``af-session.pth``.

Every Python of every pod comes by here: nothing is imported that is not needed.
"""

from __future__ import annotations

import os
import sys

from af_client.pod import dask_awkward, late


def begin() -> None:
    """See to the user's own packages, and to a run's files where this is a Python of Spark's workers."""
    late.when_imported(dask_awkward.OPTIMIZE, dask_awkward.mend)
    # As for packages of the user's anywhere: `python -s` is without.
    if (environment := os.environ.get("AF_PACKAGES")) and not sys.flags.no_user_site:
        _with_packages(environment)
    if os.environ.get("SPARK_PYTHON_RUNTIME") == "PYTHON_WORKER":
        _lay_files()


def _with_packages(environment: str) -> None:
    from pathlib import Path  # noqa: PLC0415 - only where it is asked for

    from af_client.pod import packages  # noqa: PLC0415

    if {"pip", "pip3"} & {os.path.basename(argument) for argument in sys.orig_argv}:  # noqa: PTH119 - as above
        packages.send_pip(Path(environment))
    packages.find(Path(environment))


def _lay_files() -> None:
    """Copy a run's files to where this process works; what lies there already stays."""
    import shutil  # noqa: PLC0415 - only there

    from af_names import SOURCE_DIRECTORY  # noqa: PLC0415

    if os.path.isdir(SOURCE_DIRECTORY):  # noqa: PTH112
        for entry in os.scandir(SOURCE_DIRECTORY):
            if entry.is_file() and not os.path.exists(entry.name):  # noqa: PTH110
                shutil.copyfile(entry.path, entry.name)
