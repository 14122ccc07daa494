"""A user's own packages: where pip puts them, who finds them, and that what breaks there breaks nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import af_names
from af_client.pod import packages
from local_cluster.settings import CHECKOUT
from tests.support.wheels import wheel

HOOK = CHECKOUT / "images/programs/af-session.pth"


class Image:
    """An image's environment, with our hook and pip in it, and a home."""

    def __init__(self, folder: Path) -> None:
        self.environment, self.home = folder / "venv", folder / "home"
        self.home.mkdir()
        venv.EnvBuilder(symlinks=True, with_pip=True).create(self.environment)
        site = packages.site_packages(self.environment)
        (site / HOOK.name).write_text(HOOK.read_text())
        for name in ("af_client", "af_names"):
            (site / name).symlink_to(CHECKOUT / name)
        (site / "known.py").write_text("WHOSE = 'the image'\n")
        self.packages = packages.place({"HOME": str(self.home), "AF_IMAGE": "analysis"})

    def python(self, *argv: str, check: bool = True, **variables: str) -> str:
        """Run its Python as a kernel or a terminal does."""
        given = {"PATH": os.environ["PATH"], "HOME": str(self.home), **variables}
        given |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"}
        given |= packages.variables(self.packages, given["PATH"])
        command = [str(self.environment / "bin" / "python"), *argv]
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=100, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def install(self, name: str, text: str) -> str:
        """Have pip install a package of one module."""
        file, content = wheel(name, "1.0", {f"{name}.py": text})
        (self.home / file).write_bytes(content)
        return self.python("-m", "pip", "install", "--no-index", str(self.home / file))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image(tmp_path_factory.mktemp("image"))


def test_it_is_of_one_image_and_one_python() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = packages.place({"HOME": "/home/analysis", "AF_IMAGE": "ml"})
    assert found == Path(f"/home/analysis/.local/af/ml-py{version}")


def test_what_pip_installs_lies_in_home_and_goes_before_the_image(image: Image) -> None:
    assert image.python("-c", "import known; print(known.WHOSE)") == "the image\n"
    assert not image.packages.exists(), "nothing is made before it is needed"
    assert "Successfully installed known-1.0" in image.install("known", "WHOSE = 'mine'\n")
    assert image.python("-c", "import known; print(known.WHOSE)") == "mine\n"
    assert image.python("-s", "-c", "import known; print(known.WHOSE)") == "the image\n"
    assert "known" in image.python("-m", "pip", "list")
    assert "Successfully uninstalled known-1.0" in image.python("-m", "pip", "uninstall", "--yes", "known")
    assert image.python("-c", "import known; print(known.WHOSE)") == "the image\n"


def test_a_module_of_pythons_own_stays_pythons(image: Image) -> None:
    image.install("statistics", "raise SystemExit('broken')\n")
    assert image.python("-c", "import statistics; print(statistics.mean([1, 3]))") == "2\n"


def test_what_breaks_can_be_removed_and_installed_anew(image: Image) -> None:
    image.install("yaml", "raise SystemExit('broken')\n")
    (packages.site_packages(image.packages) / "broken.pth").write_text("import nothing_like_it\n")
    assert "broken\n" in image.python("-c", "import yaml", check=False)
    subprocess.run(["rm", "-r", str(image.packages)], check=True)
    assert "No module named 'yaml'" in image.python("-c", "import yaml", check=False)
    image.install("tinycuts", "PT = 25\n")
    assert image.python("-c", "import tinycuts; print(tinycuts.PT)") == "25\n"


def test_pip_of_an_environment_that_a_user_has_made_works_there(image: Image) -> None:
    own = image.home / "own"
    image.python("-m", "venv", str(own))
    file, content = wheel("owned", "1.0", {"owned.py": ""})
    (image.home / file).write_bytes(content)
    argv = [str(own / "bin" / "pip"), "install", "--no-index", str(image.home / file)]
    image.python("-c", f"import subprocess; subprocess.run({argv!r}, check=True)")
    assert (packages.site_packages(own) / "owned.py").exists()
    assert not (packages.site_packages(image.packages) / "owned.py").exists()


def test_a_home_that_cannot_be_written_is_said(image: Image) -> None:
    found = image.python("-c", "import sys; print(sys.prefix)", AF_PACKAGES="/proc/none")
    assert found == f"{image.environment}\n"


def test_python_on_sparks_workers_begins_with_a_runs_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from af_client.pod import interpreter  # noqa: PLC0415 - nothing else of it is tried in this process

    source, work = tmp_path / "source", tmp_path / "work"
    for each in (source, work, source / "..data"):
        each.mkdir()
    (source / "cuts.json").write_text("20")
    (source / "kept.json").write_text("of the run")
    (work / "kept.json").write_text("uploaded")
    monkeypatch.chdir(work)
    monkeypatch.setattr(af_names, "SOURCE_DIRECTORY", str(source))
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    monkeypatch.setenv("SPARK_PYTHON_RUNTIME", "PYTHON_WORKER")
    monkeypatch.delenv("AF_PACKAGES", raising=False)
    interpreter.begin()
    assert {p.name: p.read_text() for p in work.iterdir()} == {"cuts.json": "20", "kept.json": "uploaded"}
