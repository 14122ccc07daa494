"""The Hub's database before the Hub starts, with databases that JupyterHub 4.1.6 and 5.3.0 have made themselves."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from jupyterhub import __version__, orm

from af_client.hub.database import NotUsable, prepare
from af_client.hub.sessions import Ref
from tests.support.fake_api import BASE, FakeApi
from tests.support.hub_in_process import HubInProcess
from tests.support.spawner_bench import GOOD, PROFILE, session_path

DUMPS = Path(__file__).with_name("hub_databases")
OLD = ["4.1.6", "5.3.0"]


@pytest.fixture(autouse=True)
def _alembic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")


def database(folder: Path, version: str, change: str = "") -> Path:
    """Return a database as a JupyterHub of this version has left it, with a change in SQL."""
    path = folder / "hub.sqlite"
    with closing(sqlite3.connect(path)) as made:
        made.executescript((DUMPS / f"jupyterhub-{version}.sql").read_text() + change)
    return path


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as opened:
        return list(opened.iterdump())


def state(folder: Path) -> dict[str, str]:
    """Return the files of a folder, and what is in them."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def refused(path: Path | str) -> str:
    with pytest.raises(NotUsable) as error:
        prepare(path if isinstance(path, str) else f"sqlite:///{path}")
    assert ". Next: " in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("version", OLD)
def test_an_older_database_is_upgraded_and_a_copy_of_it_kept(tmp_path: Path, version: str) -> None:
    path = database(tmp_path, version)
    path.chmod(0o600)
    before = dump(path)
    with pytest.raises(orm.DatabaseSchemaMismatch):
        orm.new_session_factory(f"sqlite:///{path}")
    prepare(f"sqlite:///{path}")
    db = orm.new_session_factory(f"sqlite:///{path}")()
    assert [user.name for user in db.query(orm.User)] == ["alice", "bob"]
    assert [user.name for user in orm.Group.find(db, "physics").users] == ["alice", "bob"]
    assert orm.User.find(db, "alice").orm_spawners["z"].state["name"] == "alice-z"
    assert orm.APIToken.find(db, "a-token-of-alices").user.name == "alice"
    db.close()
    kept = tmp_path / f"hub.sqlite.before-{__version__}"
    assert dump(kept) == before
    assert {each.stat().st_mode & 0o777 for each in (path, kept)} == {0o600}
    assert {each.name for each in tmp_path.iterdir()} == {path.name, kept.name}


@pytest.mark.parametrize("version", OLD)
async def test_the_hub_finds_its_users_and_their_running_servers_in_it(tmp_path: Path, version: str) -> None:
    api, path = FakeApi(), database(tmp_path, version)
    await api.put(f"{BASE}/analysisprofiles/default", dict(PROFILE))
    running = session_path("alice-z", "physics")
    spec = {"user": "alice", "mode": "Interactive", "suspend": False, "notebook": {"serverName": "z"}}
    body = await api.put(running, {"metadata": {"uid": "uid-of-alice-z"}, "spec": spec})
    await api.say(running, "Ready", *GOOD)
    prepare(f"sqlite:///{path}")
    async with HubInProcess.opened(api, tmp_path) as hub:
        assert (await hub.ask("GET", "/users/bob"))[0] == 200
        spawner = hub.hub.users["alice"].spawners["z"]
        assert spawner._ref == Ref.of(body)
        assert await spawner.poll() is None
    assert api.writes == []


@pytest.mark.parametrize("there", ["nothing", "an empty file", "this version's"])
def test_what_needs_no_upgrade_is_left_as_it_is(tmp_path: Path, there: str) -> None:
    path = tmp_path / "hub.sqlite"
    if there == "an empty file":
        path.touch()
    elif there == "this version's":
        orm.new_session_factory(f"sqlite:///{path}")().close()
    before = state(tmp_path)
    prepare(f"sqlite:///{path}")
    assert state(tmp_path) == before


def test_a_database_of_a_newer_hub_is_not_touched(tmp_path: Path) -> None:
    path = database(tmp_path, "5.3.0")
    prepare(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    before = state(tmp_path)
    said = refused(path)
    assert f"{path} is of a newer JupyterHub than this one" in said
    assert "Nothing was changed" in said
    assert str(tmp_path / f"hub.sqlite.before-{__version__}") in said
    assert state(tmp_path) == before


def test_an_upgrade_that_fails_leaves_database_and_copy_however_often(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # What the upgrade is to add is there already.
    path = database(tmp_path, "4.1.6", "ALTER TABLE spawners ADD COLUMN display_name TEXT;")
    before = dump(path)
    for _ in range(3):  # the pod is started again and again
        said = refused(path)
    assert "why stands above" in said
    assert "duplicate column name: display_name" in capfd.readouterr().err
    copy = tmp_path / f"hub.sqlite.before-{__version__}"
    assert str(copy) in said
    assert (dump(path), dump(copy)) == (before, before)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, copy.name}


def test_what_is_no_database_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    path.write_text("what was left of a file system " * 100)
    before = state(tmp_path)
    assert f"{path} is damaged" in refused(path)
    assert state(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "gone") in refused(tmp_path / "gone" / "hub.sqlite")


def test_another_databases_password_is_not_told(tmp_path: Path) -> None:
    said = refused("postgresql+pg8000://hub:the-password@db.example.org/hub")
    assert "no driver" in said
    assert "db.example.org/hub" in said
    assert "the-password" not in said


FULL = """
import sys
from pathlib import Path
from af_client.hub.database import NotUsable, prepare
path = Path(sys.argv[1]) / "hub.sqlite"
left = int(sys.argv[2])
with (path.parent / "filler").open("wb", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError:
        filler.truncate(filler.tell() - left)
before = path.read_bytes()
try:
    prepare(f"sqlite:///{path}")
except NotUsable as error:
    print(error)
assert path.read_bytes() == before
print(sorted(each.name for each in path.parent.iterdir()))
"""


@pytest.fixture
def small_volume(tmp_path: Path) -> list[str]:
    """Give the start of a command line that sees a file system of 1 MiB at `tmp_path`, with an old database in it."""
    dump_path = DUMPS / "jupyterhub-5.3.0.sql"
    fill = f"import sqlite3; sqlite3.connect('{tmp_path}/hub.sqlite').executescript(open('{dump_path}').read())"
    script = f'mount -t tmpfs -o size=1m none {tmp_path} && {sys.executable} -c "{fill}" && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system of their own")
    return command


@pytest.mark.parametrize("left", [0, 300_000], ids=["nothing is left", "the copies have room"])
def test_a_full_volume_is_called_one_and_nothing_is_lost(small_volume: list[str], tmp_path: Path, left: int) -> None:
    command = [*small_volume, sys.executable, "-c", FULL, str(tmp_path), str(left)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    said, files = done.stdout.splitlines(), ["filler", "hub.sqlite"]
    assert "the Hub's volume is full" in said[0], done
    assert "hub.storage.size" in said[0]
    if left:  # the room of two copies, and of no more
        files.append(f"hub.sqlite.before-{__version__}")
    assert said[1] == str(files)
