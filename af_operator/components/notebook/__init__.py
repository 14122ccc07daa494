"""Notebook: a JupyterLab server of one's own, as a StatefulSet of one, with the user's home.

It is the session's record: suspend and the end scale it to nothing, and what a server is found by (its name and
address) stays until the session goes. Its token ends with it, and the right to read that, for its name may then be
somebody else's; the next server has a new one. Home stays beyond the session. Here are the objects, of
which ``templates/`` has the shape; ``secret`` has what a server is started with where no JupyterHub says it, and
``health`` why one is not ready.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from af_operator import names
from af_operator.api.profile import Home
from af_operator.api.session import Notebook
from af_operator.components._shared import access, choices, missing_pods, placement, pod_spec, volumes
from af_operator.components._shared.defaults import (
    demands,
    finish,
    log_wanted,
    pod_patch,
    pools,
    question,
    report,
)
from af_operator.components.notebook import secret
from af_operator.components.notebook.health import STATEFUL_SET, health, without_pod
from af_operator.components.notebook.lost import NAME, TITLE
from af_operator.model import (
    POD,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    VOLUME_CLAIM,
    Body,
    Discard,
    Keep,
    Kind,
    Lifetime,
    Loan,
    Manifest,
    ObjectRef,
    PodPatch,
    Profile,
    Session,
)
from af_operator.observed import Observed, Settled, Terms
from af_operator.render import render
from af_operator.views import HubServer

__all__ = [
    "KEPT",
    "KINDS",
    "LIFETIME",
    "NAME",
    "SHARED",
    "TITLE",
    "WATCHED",
    "activity",
    "check",
    "deadline",
    "demands",
    "desired",
    "enabled",
    "finish",
    "health",
    "loans",
    "log_wanted",
    "pod_patch",
    "pools",
    "question",
    "registration",
    "report",
]

KINDS: tuple[Kind, ...] = (STATEFUL_SET, SERVICE, SECRET, ROLE, ROLE_BINDING)
WATCHED: tuple[Kind, ...] = (POD,)
SHARED: tuple[Kind, ...] = (VOLUME_CLAIM,)
KEPT: tuple[Kind, ...] = ()
LIFETIME: Lifetime = "record"

HOME = "/home/analysis"
SAVE_SECONDS = 60
"""What kernels have to end in, and JupyterLab to write what is open."""


def enabled(session: Session) -> bool:
    """Return whether the session asks for a notebook."""
    return session.spec.notebook is not None


def check(session: Session, profile: Profile) -> None:
    """Raise ``InvalidSession`` when image, size or node pool is not in the profile, or not for notebooks."""
    choices.image(session, profile)
    choices.size(profile, _spec(session).size)
    placement.check("notebook.nodePool", _spec(session).node_pool, profile)


def desired(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Sequence[Manifest | Keep | Discard]:
    """Return the server, its address and token, its user's right to these, and the home."""
    name = names.notebook(session)
    service = render(__name__, "service", name=name, selector=names.selector(session, NAME), port=names.NOTEBOOK_PORT)
    if session.spec.suspend or observed.finished is not None or terms.outside:
        return [service, *_stopped(session, observed)]
    server = list(_running(session, profile, observed, terms.patch("user")))
    return [
        render(__name__, "secret", name=name, data=secret.data(session, observed)),
        service,
        *_rights(session, observed, server),
        *server,
        *_missing_pod(session, observed),
    ]


def _rights(session: Session, observed: Observed, server: Sequence[Manifest | Keep]) -> Iterator[Manifest]:
    """Yield the right to Secret and pod, for its user and for JupyterHub, which adopts the server by its token.

    Whose StatefulSet has the name, theirs is the pod: so it is given with the server, and not before.
    """
    begun = next((item for item in server if item.ref == _stateful_set_ref(session)), None)
    if begun is None:
        return
    live = begun.body if isinstance(begun, Manifest) else observed.get(begun.ref)
    account = observed.hub.account if observed.hub else ""
    hub = {"readers": [account], "secrets": secret.named_by_hub(session, live)} if account else {}
    yield from access.of_user(session, names.notebook(session), names.notebook_pod(session), **hub)


def deadline(session: Session, observed: Settled) -> datetime | None:
    """Return when the pod is missing for too long."""
    live = without_pod(session, observed)
    return missing_pods.due_at(live["metadata"].get("creationTimestamp")) if live else None


def _missing_pod(session: Session, observed: Settled) -> Iterator[Manifest]:
    """Yield the pod that the StatefulSet's controller does not make, to hear why."""
    live = without_pod(session, observed)
    if live is not None:
        name, since = names.notebook_pod(session), live["metadata"].get("creationTimestamp")
        yield from missing_pods.tried(name, live, since, observed)


def loans(session: Session, profile: Profile, observed: Settled) -> Sequence[Loan]:
    """Return the Hub's Secret, before a server starts that is to have what it says."""
    live = observed.get(_stateful_set_ref(session))
    runs = live is not None and live.get("spec", {}).get("replicas") == 1
    if runs or session.spec.suspend or observed.finished:
        return ()
    ref = secret.of_hub(session)
    return [Loan(ref, unread=ref not in observed.read)]


def registration(session: Session, observed: Settled) -> HubServer | None:
    """Return the server that JupyterHub is to show."""
    return HubServer(session.spec.user, names.hub_server(session))


def activity(session: Session, observed: Settled) -> datetime | None:
    """Return when JupyterHub last saw somebody, or a kernel, use the server."""
    if observed.hub is None or observed.namesake:  # what it shows by that name is another session
        return None
    return observed.hub.activity.get(HubServer(session.spec.user, names.hub_server(session)))


def _stopped(session: Session, observed: Observed) -> Iterator[Manifest | Discard]:
    """Yield the server scaled to nothing. Its Secret goes too, as those of all that computes go with that."""
    live = observed.get(_stateful_set_ref(session)) or {}
    pod = live.get("spec", {}).get("template", {}).get("spec")
    if pod:
        yield from map(Discard, secret.begun_with(session, live, observed))
        # From what runs, not from the catalogue: that may be gone, or not fit any more, and still it has to stop.
        yield _stateful_set(session, pod, replicas=0)


def _running(session: Session, profile: Profile, observed: Observed, patch: PodPatch) -> Iterator[Manifest | Keep]:
    live, home = observed.get(_stateful_set_ref(session)), profile.spec.storage.home
    if home is not None:
        yield _home(session, home)
    if live is not None and live.get("spec", {}).get("replicas") == 1:
        # As it was begun: neither an edit of the catalogue nor another version of the operator ends what kernels do.
        yield Keep(_stateful_set_ref(session))
    elif home is None or any(_is_home(session, body) for body in observed.shared):
        pod = _pod(session, profile, observed, patch)
        yield _stateful_set(session, pod, replicas=1, annotations=secret.mark(session, observed))
    elif live is not None:
        # A claim of that name may be another user's: no pod mounts it before it is known to be ours.
        yield Keep(_stateful_set_ref(session))


def _stateful_set(
    session: Session, pod: Body, *, replicas: int, annotations: Mapping[str, str] = MappingProxyType({})
) -> Manifest:
    return render(
        __name__,
        "statefulset",
        name=names.notebook(session),
        annotations=dict(annotations),
        replicas=replicas,
        selector=names.selector(session, NAME),
        labels=names.labels(session, NAME),
        pod=pod,
    )


def _home(session: Session, home: Home) -> Manifest:
    return replace(volumes.claim(names.home(session.spec.user), home), shared=True)


def _is_home(session: Session, body: Body) -> bool:
    return bool(body["kind"] == VOLUME_CLAIM.kind and body["metadata"]["name"] == names.home(session.spec.user))


def _pod(session: Session, profile: Profile, observed: Observed, patch: PodPatch) -> dict[str, Any]:
    volumes, mounts = _volumes(session, profile)
    container = pod_spec.patched(_container(session, profile, observed, mounts), patch)
    pod = pod_spec.pod([container], [*volumes, *patch.volumes], placement.of(profile, _spec(session).node_pool))
    # A new volume belongs to root. Only its top is looked at: home may have millions of files.
    pod["securityContext"] |= {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"}
    return pod_spec.with_sidecars({**pod, "terminationGracePeriodSeconds": SAVE_SECONDS}, patch.sidecars)


def _container(session: Session, profile: Profile, observed: Observed, mounts: list[Body]) -> Body:
    path = names.hub_path(session, observed.hub_base_url)
    # Answered without a token. There is no liveness probe: killing a server that is busy or waits for its storage
    # takes the kernels with it, and hours of work.
    probe = {"httpGet": {"path": f"{path}api", "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 5}
    return pod_spec.container(
        names.NOTEBOOK_CONTAINER,
        choices.image(session, profile),
        args=["af-notebook"],
        workingDir=HOME,
        ports=[{"name": "http", "containerPort": names.NOTEBOOK_PORT, "protocol": "TCP"}],
        # The Hub's, where it has written one, wins: its spawner does so only while no server runs.
        envFrom=[{"secretRef": {"name": names.notebook(session)}}, *secret.from_hub(session, observed)],
        env=_env(session, profile, path),
        resources=pod_spec.resources(choices.size(profile, _spec(session).size)),
        startupProbe={**probe, "periodSeconds": 1, "failureThreshold": 300},
        readinessProbe={**probe, "periodSeconds": 10, "failureThreshold": 3},
        volumeMounts=mounts,
    )


def _env(session: Session, profile: Profile, path: str) -> list[Body]:
    values = {
        "AF_SESSION": session.name,
        "AF_NAMESPACE": session.namespace,
        "AF_BASE_URL": path,
        # In a home that sessions share, packages that pip installs are for one image.
        "AF_IMAGE": choices.image_name(session, profile),
        "HOME": HOME,
    }
    return pod_spec.env(values | pod_spec.variables(session))


def _volumes(session: Session, profile: Profile) -> tuple[list[Body], list[Body]]:
    """Return the volumes of home and scratch, and where they are mounted."""
    size = choices.size(profile, _spec(session).size)
    if profile.spec.storage.home is None:
        return pod_spec.scratch(size, {"home": HOME, "tmp": pod_spec.TMP})
    scratch, mounts = pod_spec.scratch(size, {"tmp": pod_spec.TMP})
    home = {"name": "home", "persistentVolumeClaim": {"claimName": names.home(session.spec.user)}}
    return [home, *scratch], [{"name": "home", "mountPath": HOME}, *mounts]


def _stateful_set_ref(session: Session) -> ObjectRef:
    return STATEFUL_SET.ref(names.notebook(session))


def _spec(session: Session) -> Notebook:
    if session.spec.notebook is None:
        raise TypeError("this session has no notebook")
    return session.spec.notebook
