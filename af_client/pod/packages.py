"""A user's own packages: what ``pip`` installs from a notebook or its terminal, in the home volume.

The image belongs to root, and goes with the pod. So pip works on a virtual environment in home, of which the image's
packages are a part: what the image has is not installed again, and what is installed anew goes before it. Kernels and
terminals run the image's Python, which finds the packages there, and sends pip there (``interpreter``); the notebook
server does not, for a package that breaks must not keep it from starting.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
IMAGE_LINK = "_image.pth"
"""Name of the file in there that leads to the image's packages."""


def place(environ: Mapping[str, str]) -> Path:
    """Return the environment in home of this image: packages are compiled for one Python, beside others' packages."""
    home = Path(environ.get("HOME") or Path.cwd())
    return home / ".local" / "af" / f"{environ.get('AF_IMAGE', 'image')}-py{VERSION}"


def site_packages(environment: Path) -> Path:
    """Return where the packages of an environment lie."""
    return environment / "lib" / f"python{VERSION}" / "site-packages"


def ensure(environment: Path) -> None:
    """Make an empty environment where there is none.

    Raises
    ------
    OSError
        Home is full, or not ours.
    """
    link = site_packages(environment) / IMAGE_LINK
    if not link.exists():
        import venv  # noqa: PLC0415 - each Python of a kernel or a terminal would pay for it

        venv.EnvBuilder(symlinks=True).create(environment)
        # Last: what is half made has none, and is made again.
        link.write_text(f"{site_packages(Path(sys.prefix))}\n")


def variables(environment: Path, path: str) -> dict[str, str]:
    """Return the variables by which kernels and terminals find an environment, which need not be there yet."""
    # Behind the image's: the `python` in there is pip's, and has none of the image's configuration.
    return {"AF_PACKAGES": str(environment), "PATH": f"{path}:{environment / 'bin'}"}


def find(environment: Path) -> None:
    """Find the packages of an environment before those of the image, but behind Python's own modules."""
    before = sys.path[:]
    site.addsitedir(str(site_packages(environment)))
    added = [entry for entry in sys.path if entry not in before]
    of_image = str(Path(__file__).parents[2])
    at = before.index(of_image) if of_image in before else len(before)
    sys.path[:] = [*before[:at], *added, *before[at:]]


def send_pip(environment: Path) -> None:
    """Have pip, which this process will be, work there: no variable says it to all, for users make environments too."""
    try:
        ensure(environment)
    except OSError as error:
        print(f"pip has no place for your packages: {error}", file=sys.stderr)
    # https://pip.pypa.io/en/stable/topics/python-option/
    os.environ.setdefault("PIP_PYTHON", str(environment / "bin" / "python"))
