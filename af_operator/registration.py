"""Whether JupyterHub shows a session, and whether it is to be asked to. Pure: the view of the Hub is an argument."""

from __future__ import annotations

from af_operator.model import Plan, Session
from af_operator.observed import Observed
from af_operator.views import HubServer, HubView, Registration


def decide(session: Session, plan: Plan, observed: Observed) -> Registration | None:
    """Return how the session stands with JupyterHub, or None where there is none or nothing to show in it."""
    hub = observed.hub
    if hub is None or plan.server is None:
        return None
    component, server = plan.server
    ready = plan.health[component].ready
    return _at_rest(session, plan, server, hub) or _among_servers(session, observed, hub, server, ready=ready)


def _at_rest(session: Session, plan: Plan, server: HubServer, hub: HubView) -> Registration | None:
    # A server that runs in the Hub belongs to a session that runs: to start it would bring this one back.
    outdated = server in (hub.servers or ())
    if session.deleting:
        message = "not shown as running: the session is being deleted"
        return Registration(server, False, "Deleting", message, outdated=outdated)
    if plan.finished:
        message = "not shown as running: the session has finished"
        return Registration(server, False, "Finished", message, outdated=outdated)
    if session.spec.suspend:
        message = "not shown as running while the session is suspended"
        return Registration(server, False, "Suspended", message, outdated=outdated)
    return None


def _among_servers(
    session: Session, observed: Observed, hub: HubView, server: HubServer, *, ready: bool
) -> Registration:
    name = f"server {server.server!r}" if server.server else "the default server"
    if observed.namesake:
        other = f"{observed.namesake.namespace}/{observed.namesake.name}"
        return Registration(
            server,
            False,
            "NameTaken",
            f"{name} of user {server.user!r} in JupyterHub is session {other}: delete that one, or create this one "
            "under another name (or spec.notebook.serverName)",
        )
    if hub.servers is None:
        after = f"the session works all the same (`af open {session.name}`), and is registered when JupyterHub is back"
        return Registration(server, False, "HubUnavailable", f"{hub.trouble}; {after}")
    if server in hub.servers:
        return Registration(server, True, "Registered", f"shown in JupyterHub as {name} of user {server.user!r}")
    if server in hub.refused:
        return Registration(server, False, *hub.refused[server])
    if not ready:
        return Registration(server, False, "NotReady", "registered as soon as the notebook is ready")
    return Registration(server, False, "Registering", "JupyterHub is asked to show it", wanted=True)
