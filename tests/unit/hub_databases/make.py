"""Write the database of a JupyterHub as SQL, by this very JupyterHub: ``python make.py > jupyterhub-5.3.0.sql``.

Run by the interpreter of an environment with ``jupyterhub==5.3.0``. In it are alice, whose server ``z`` runs a session,
bob without any, and the group of both.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from jupyterhub import orm, roles


def fill(url: str) -> None:
    """Make the tables, and what a Hub of a facility has in them."""
    db = orm.new_session_factory(url)()
    for role in roles.get_default_roles():
        roles.create_role(db, role)
    alice, bob = orm.User(name="alice", admin=True), orm.User(name="bob")
    server = orm.Server(proto="http", ip="10.0.0.1", port=8888, base_url="/user/alice/z/")
    state = {"namespace": "physics", "name": "alice-z", "uid": "uid-of-alice-z"}
    spawner = orm.Spawner(user=alice, name="z", server=server, state=state, user_options={"size": "small"})
    db.add(orm.OAuthClient(identifier="jupyterhub", secret="", redirect_uri=""))
    db.add_all([alice, bob, spawner, orm.Group(name="physics", users=[alice, bob])])
    db.commit()
    alice.new_api_token(token="a-token-of-alices", note="by hand")
    db.commit()


with TemporaryDirectory() as folder:
    path = Path(folder) / "jupyterhub.sqlite"
    fill(f"sqlite:///{path}")
    sys.stdout.write("\n".join(sqlite3.connect(path).iterdump()) + "\n")
