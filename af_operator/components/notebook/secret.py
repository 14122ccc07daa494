"""The notebook's Secret: its token, and the environment of a server for which no JupyterHub has written one.

What JupyterHub's ``Spawner.get_env`` says (6.1), so that a server which the Hub did not start can be adopted by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

from af_operator import names, ownership
from af_operator.components._shared import secrets
from af_operator.model import SECRET, Body, ObjectRef, Session
from af_operator.observed import Observed
from af_operator.views import HubView

TOKEN = "JUPYTER_TOKEN"  # noqa: S105 -- the name of a variable


def data(session: Session, observed: Observed) -> dict[str, str]:
    """Return the Secret's data: variables by name, their values in base64.

    The token is drawn when there is no such Secret: for the first server, and after each suspension.
    """
    token = secrets.kept(session, observed, names.notebook(session), TOKEN) or observed.token("notebook token")
    variables = {TOKEN: token}
    if observed.hub is not None:
        # One token for both: the Hub registers it when it adopts the server, and `af open` works without the Hub.
        variables |= {"JUPYTERHUB_API_TOKEN": token, **hub_env(session, observed.hub)}
    return secrets.encoded(variables)


def mark(session: Session, observed: Observed) -> dict[str, str]:
    """Return what a StatefulSet that starts a server is marked by: which version of the Hub's Secret that reads."""
    read = from_hub(session, observed) and observed.read.get(of_hub(session))
    return {names.HUB_SECRET: str(read["metadata"]["resourceVersion"])} if read else {}


def begun_with(session: Session, stateful_set: Body, observed: Observed) -> Iterator[Body]:
    """Yield the Hub's Secret, if the server that stops was begun with it: its token is to open nothing any more.

    What the Hub has written since is for the next server. Left there, the old one would be read again by a server that
    is begun without the Hub, which would take it over.
    """
    written, version = observed.get(of_hub(session)), stateful_set["metadata"].get("annotations", {})
    marked = version.get(names.HUB_SECRET)
    if marked and written and written["metadata"].get("resourceVersion") == marked:
        yield written


def of_hub(session: Session) -> ObjectRef:
    """Return the Secret in which JupyterHub writes a server's environment."""
    return SECRET.ref(names.notebook_hub_secret(session))


def from_hub(session: Session, observed: Observed) -> list[Body]:
    """Return a container's reference to it, if the session owns it: one of somebody else is nothing to run with.

    Anybody may name an owner; the label can be set by the operators and the Hub alone.
    """
    written = observed.read.get(of_hub(session))
    if written is None or not ownership.of_family(session, written, observed):
        return []
    # Optional: who has taken it away has no server fail for it that is started again.
    return [{"secretRef": {"name": names.notebook_hub_secret(session), "optional": True}}]


def named_by_hub(session: Session, stateful_set: Body | None) -> list[str]:
    """Return the name of JupyterHub's Secret, if a server was begun with it: it was the session's then."""
    pod = (stateful_set or {}).get("spec", {}).get("template", {}).get("spec", {})
    sources = [source for container in pod.get("containers", ()) for source in container.get("envFrom", ())]
    name = names.notebook_hub_secret(session)
    return [name] if any(source.get("secretRef", {}).get("name") == name for source in sources) else []


def hub_env(session: Session, hub: HubView) -> dict[str, str]:
    """Return JUPYTERHUB_*, but for the token."""
    user, server, prefix = session.spec.user, names.hub_server(session), names.hub_path(session, hub.base_url)
    # Not escaped as in a path: it becomes part of a cookie's name.
    client = "-".join(["jupyterhub-user", quote(user), *([quote(server)] if server else [])])
    access = json.dumps([f"access:servers!server={user}/{server}", f"access:servers!user={user}"])
    return {
        "JUPYTERHUB_CLIENT_ID": client,
        "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED": "0",
        "JUPYTERHUB_HOST": "",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{prefix}oauth_callback",
        "JUPYTERHUB_OAUTH_SCOPES": access,
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": access,
        "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES": "[]",
        "JUPYTERHUB_USER": user,
        "JUPYTERHUB_SERVER_NAME": server,
        "JUPYTERHUB_API_URL": hub.api_url,
        "JUPYTERHUB_ACTIVITY_URL": f"{hub.api_url.rstrip('/')}/users/{quote(user, safe='@~')}/activity",
        "JUPYTERHUB_BASE_URL": hub.base_url.rstrip("/") + "/",
        "JUPYTERHUB_SERVICE_PREFIX": prefix,
        "JUPYTERHUB_SERVICE_URL": f"http://0.0.0.0:{names.NOTEBOOK_PORT}{prefix}",
        "JUPYTERHUB_PUBLIC_URL": "",
        "JUPYTERHUB_PUBLIC_HUB_URL": "",
    }
