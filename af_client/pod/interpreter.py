"""What each Python of the image does before its program, where the environment asks for it; by ``af-session.pth``.

Every Python of every pod comes by here: nothing is imported that is not needed.
"""

from __future__ import annotations

import os
import shutil
import site
import sys
from contextlib import suppress
from pathlib import Path

from af_names import SOURCE_DIRECTORY


def begin() -> None:
    """See to the user's own packages, and to a run's files where this is a Python of Spark's workers."""
    # As for packages of the user's anywhere: `python -s` is without.
    if (environment := os.environ.get("AF_PACKAGES")) and not sys.flags.no_user_site:
        if {"pip", "pip3"} & {Path(argument).name for argument in sys.orig_argv}:
            send_pip(Path(environment))
        find_packages(Path(environment))
    if os.environ.get("SPARK_PYTHON_RUNTIME") == "PYTHON_WORKER":
        lay(Path(SOURCE_DIRECTORY))


def send_pip(environment: Path) -> None:
    """Have pip, which this process will be, work there: no variable says it to all, for users make environments too."""
    from af_client.pod import packages  # noqa: PLC0415 - only where it is asked for

    try:
        packages.ensure(environment)
    except OSError as error:
        print(f"pip has no place for your packages: {error}", file=sys.stderr)
    # https://pip.pypa.io/en/stable/topics/python-option/
    os.environ.setdefault("PIP_PYTHON", str(environment / "bin" / "python"))


def find_packages(environment: Path) -> None:
    """Find the packages of an environment before those of the image, but behind Python's own modules."""
    from af_client.pod.packages import site_packages  # noqa: PLC0415 - as above

    before = sys.path[:]
    site.addsitedir(str(site_packages(environment)))
    added = [entry for entry in sys.path if entry not in before]
    of_image = str(Path(__file__).parents[2])
    at = before.index(of_image) if of_image in before else len(before)
    sys.path[:] = [*before[:at], *added, *before[at:]]


def lay(source: Path) -> None:
    """Copy a run's files to where this process works; what lies there already stays."""
    with suppress(OSError):
        for path in source.iterdir():
            if path.is_file() and not Path(path.name).exists():
                shutil.copyfile(path, path.name)
