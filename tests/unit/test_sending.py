"""``session.upload``: what is read, what is refused, and how Spark gets it; how Dask does is in `test_own_modules`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from af_client.errors import BadInput
from af_client.pod import packages, sending
from af_client.pod.here import Here
from tests.support.wheels import wheel


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[sending.Upload]:
    """What goes to an engine that only notes it; files are in the current directory."""
    monkeypatch.chdir(tmp_path)
    noted: list[sending.Upload] = []
    monkeypatch.setattr(sending, "ENGINES", {"ENGINE": noted.append})
    return noted


HERE = Here({"ENGINE": "there"})


def write(**files: str) -> None:
    for name, text in files.items():
        path = Path(name.replace("__in__", "/").replace("__dot__", "."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_files_have_their_paths_from_here(sent: list[sending.Upload]) -> None:
    write(cuts__dot__json="1", tables__in__deep__in__a="2", tables____pycache____in__b="3")
    Path("tables/__pycache__").mkdir()
    Path("tables/__pycache__/b").write_text("3")
    HERE.upload("cuts.json", "tables", Path("tables/deep/a").resolve())
    assert [each.files for each in sent] == [{"cuts.json": b"1"}, {"tables/deep/a": b"2"}, {"tables/deep/a": b"2"}]


def test_what_lies_elsewhere_has_its_own_name(sent: list[sending.Upload], monkeypatch: pytest.MonkeyPatch) -> None:
    write(away__in__tables__in__a="1", here__in__b="2")
    monkeypatch.chdir("here")
    HERE.upload("../away/tables")
    assert sent[0].files == {"tables/a": b"1"}


def test_a_wheel_is_installed(sent: list[sending.Upload]) -> None:
    name, content = wheel("tiny", "1.0", {"tiny/__init__.py": "X = 1", "tiny-1.0.data/purelib/more.py": "Y = 2"})
    Path(name).write_bytes(content)
    HERE.upload(name)
    assert sent[0].installed
    assert sent[0].name == "tiny"
    assert {"tiny/__init__.py": b"X = 1", "more.py": b"Y = 2"}.items() <= sent[0].files.items()


def test_packages_of_home_go_without_the_image(sent: list[sending.Upload], tmp_path: Path) -> None:
    site = packages.site_packages(tmp_path / "own")
    site.mkdir(parents=True)
    (site / packages.IMAGE_LINK).write_text("/opt/venv")
    here = Here({"ENGINE": "there", "AF_PACKAGES": str(tmp_path / "own")})
    with pytest.raises(BadInput, match="%pip install"):
        here.upload_packages()
    (site / "tiny.py").write_text("X = 1")
    here.upload_packages()
    assert [each.files for each in sent] == [{"tiny.py": b"X = 1"}]


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ((), "say what to upload"),
        (("missing",), "there is no missing here"),
        (("large", "cuts.json"), "large is larger than 0 MiB"),
        (("no.whl",), r"no\.whl cannot be read as a wheel"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(
    sent: list[sending.Upload], paths: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MAX_BYTES", 4)
    write(cuts__dot__json="1", large="22222", no__dot__whl="3")
    with pytest.raises(BadInput, match=said):
        HERE.upload(*reversed(paths))
    assert sent == []


def test_a_session_without_workers_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(a="1")
    with pytest.raises(BadInput, match="neither Dask nor Spark"):
        Here({}).upload("a")


class Session:
    """Spark as a client sees it: each name is taken once."""

    def __init__(self) -> None:
        self.added: dict[str, bytes] = {}

    def addArtifacts(self, path: str, **_: bool) -> None:  # noqa: N802 - Spark's
        file, content = Path(path), Path(path.partition("#")[0]).read_bytes()
        if self.added.get(file.name, content) != content:
            raise AlreadyExists
        self.added[file.name] = content


class AlreadyExists(Exception):
    def getCondition(self) -> str:  # noqa: N802 - Spark's
        return "ARTIFACT_ALREADY_EXISTS"


def test_spark_takes_a_directory_again_and_says_what_to_do_with_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session()
    sql: Any = ModuleType("pyspark.sql")
    builder = type("Builder", (), {"getOrCreate": staticmethod(lambda: session)})
    sql.SparkSession = type("SparkSession", (), {"builder": builder})
    monkeypatch.setitem(sys.modules, "pyspark", ModuleType("pyspark"))
    monkeypatch.setitem(sys.modules, "pyspark.sql", sql)
    monkeypatch.chdir(tmp_path)
    here = Here({"SPARK_REMOTE": "sc://there"})
    for text in "12":
        write(tables__in__a=text)
        here.upload("tables")
    assert [name.partition("#")[2] for name in session.added] == ["tables", "tables"]
    write(a="1")
    here.upload("a")
    here.upload("a")
    write(a="2")
    with pytest.raises(BadInput, match="upload it in a directory"):
        here.upload("a")
