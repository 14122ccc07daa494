"""The Hub's database before the Hub starts: as it is, or brought to this JupyterHub's schema, with a copy beside it.

JupyterHub does not start on a database of another version. What its own ``upgrade_db`` would do for us, it does in
place, and again at each start that fails, each time with another copy: a volume is soon full of them. Here a copy of
SQLite's file is upgraded, and takes its place when that is done: whatever happens meanwhile, the file is as it was.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from subprocess import CalledProcessError
from tempfile import NamedTemporaryFile
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from jupyterhub import __version__, dbutil, orm
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

LOG = logging.getLogger(__name__)
BEFORE = f".before-{__version__}"
"""Ends the name of the copy of what was there before: one for each version, so that they do not pile up."""
ROOM = 1 << 16
"""Bytes that the Hub needs at the least to write down that it has started."""


class NotUsable(Exception):
    """The Hub cannot start on its database: what is so, and the next step. Nothing was changed."""


def prepare(url: str, options: Mapping[str, Any] = {}, *, upgrade_server: bool = False) -> None:
    """See to it that this JupyterHub can start on a database.

    Parameters
    ----------
    url, options
        As ``c.JupyterHub.db_url`` and ``c.JupyterHub.db_kwargs``.
    upgrade_server
        ``c.JupyterHub.upgrade_db``: whether JupyterHub may upgrade one that is no file, of which no copy is made here.

    Raises
    ------
    NotUsable
        It cannot.
    """
    with _in_words(url):
        path = _file(url)
        if path is not None:
            _must_have_room(path.parent)
            if not path.exists():
                return
        if not _is_old(url, options):
            return
        if path is not None:
            _upgrade(path)
        elif not upgrade_server:
            raise NotUsable(
                f"the database {_shown(url)} is of an older JupyterHub than this one ({__version__}). Next: make a "
                "backup of it, then set hub.config.JupyterHub.upgrade_db: true for one start"
            )


def _is_old(url: str, options: Mapping[str, Any]) -> bool:
    """Return whether a database is of an older JupyterHub; only read.

    Raises
    ------
    NotUsable
        It is of a newer one.
    """
    scripts = ScriptDirectory(dbutil.ALEMBIC_DIR)
    engine = create_engine(url, **options)
    try:
        revision, empty = _revision(engine)
    finally:
        engine.dispose()
    if empty or revision == scripts.get_current_head():
        return False
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise NotUsable(
            f"the database {_shown(url)} is of a newer JupyterHub than this one: {__version__} does not know its "
            f"schema, {revision}. Nothing was changed. Next: install the newer version again; or, to stay with this "
            f"one, stop the Hub and put the copy that was made before the upgrade in its place{_copies(url)}"
        )
    return True


def _revision(engine: Engine) -> tuple[str | None, bool]:
    """Return the schema's revision, None if it is older than such numbers, and whether there are no tables yet."""
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        revision = MigrationContext.configure(connection).get_current_revision()
    return revision, not tables & orm.Base.metadata.tables.keys()


def _upgrade(path: Path) -> None:
    """Upgrade a copy of SQLite's file, and put it into the file's place."""
    kept, new = path.with_name(path.name + BEFORE), path.with_name(f"{path.name}.new")
    LOG.warning("%s is of an older JupyterHub: upgrading it for %s; a copy of it is %s", path, __version__, kept)
    try:
        for copy in (kept, new):
            _copy(path, copy)
        dbutil.upgrade_if_needed(f"sqlite:///{new}", backup=False, log=LOG)
        new.replace(path)
    except CalledProcessError as error:
        _must_have_room(path.parent)  # or else that is why
        raise NotUsable(
            f"{path} could not be upgraded for JupyterHub {__version__}: why stands above. It is as it was, and a copy "
            f"of it is {kept}. Next: go back to the version before (helm rollback), and report what stands above"
        ) from error
    finally:
        for rest in (new, new.with_name(f"{new.name}-journal")):
            rest.unlink(missing_ok=True)
    LOG.warning("%s is upgraded", path)


def _copy(path: Path, to: Path) -> None:
    """Copy a database as SQLite reads it: also one whose last writer was killed in the middle of it."""
    part = to.with_name(f"{to.name}.part")
    part.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
        shutil.copymode(path, part)
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)


def _must_have_room(folder: Path) -> None:
    with NamedTemporaryFile(dir=folder) as probe:
        probe.write(bytes(ROOM))
        probe.flush()
        os.fsync(probe.fileno())


@contextmanager
def _in_words(url: str) -> Iterator[None]:
    """Say of what the system or the database refuses what it means for the Hub."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise NotUsable(_said(url, error)) from error
    except DBAPIError as error:
        raise NotUsable(_said(url, error.orig or error)) from error
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise NotUsable(
            f"the Hub's image has no driver for the database {_shown(url)}: {error}. Next: build an image with it"
        ) from error


def _said(url: str, error: BaseException) -> str:
    where = _shown(url)
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in str(error):
        return (
            f"the Hub's volume is full: {where} cannot be written. Nothing was changed. Next: make the volume larger "
            f"(hub.storage.size, if its class allows that), or move old copies of the database away{_copies(url)}"
        )
    if "not a database" in str(error) or "malformed" in str(error):
        return f"{where} is damaged: {error}. Next: stop the Hub, and put a copy in its place{_copies(url)}"
    return f"the Hub's database {where} cannot be used: {error}. Next: see to it that the Hub can read and write it"


def _copies(url: str) -> str:
    """Return the copies that lie beside SQLite's file, in brackets, the newest first."""
    found = list[Path]()
    if path := _file(url):
        with suppress(OSError):
            found = sorted(path.parent.glob(f"{path.name}.*"), key=lambda each: -each.stat().st_mtime)
    return f" ({', '.join(str(each) for each in found)})" if found else ""


def _file(url: str) -> Path | None:
    """Return the file of a database, None if it is in none."""
    found = make_url(url)
    sqlite = found.get_backend_name() == "sqlite"
    return Path(found.database) if sqlite and found.database and found.database != ":memory:" else None


def _shown(url: str) -> str:
    return str(_file(url) or make_url(url).render_as_string(hide_password=True))
