"""XCache: an XRootD cache that `root://` reads go through, without a change in user code.

The cache runs in forwarding mode: the client's proxy plugin asks it for ``/root://server//path``. In this mode XCache
knows files by their path alone, so of one origin only. A plugin in the cache's image sends clients past it for all else
(``images/xcache/opens.cc``), and keeps it within its size (``disk.cc``). All the rest is here: the cache, as a
Deployment of the session or as a sidecar of each pod that reads, and its health; ``config.py`` has the configuration,
``templates/`` the objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from af_operator import names
from af_operator.api.xcache import ProfileXCache, XCache
from af_operator.components._shared import placement, pod_reasons, pod_spec
from af_operator.components._shared.defaults import (
    activity,
    deadline,
    demands,
    finish,
    loans,
    log_wanted,
    pools,
    question,
    registration,
    report,
)
from af_operator.components._shared.pod_reasons import Reason
from af_operator.components.xcache import config, decision, secret
from af_operator.errors import InvalidSession
from af_operator.model import (
    CONFIG_MAP,
    DEPLOYMENT,
    POD,
    SECRET,
    SERVICE,
    Audience,
    Body,
    Health,
    Keep,
    Kind,
    Lifetime,
    Manifest,
    PodPatch,
    Profile,
    Session,
)
from af_operator.observed import Observed, Settled, Terms
from af_operator.render import render

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

NAME = "xcache"
TITLE = "XCache"
KINDS: tuple[Kind, ...] = (CONFIG_MAP, DEPLOYMENT, SECRET, SERVICE)
WATCHED: tuple[Kind, ...] = (POD,)
SHARED: tuple[Kind, ...] = ()
KEPT: tuple[Kind, ...] = ()
LIFETIME: Lifetime = "cache"

CONTAINER = "xcache"
MIN_SIZE, RUN_LIMIT = "100Mi", "64Mi"
SLACK = 2**30
"""Of the volume, over what the cache holds: directories, and files of less than a block."""
CONFIG_DIR = "/etc/xcache"
PLUGIN_DIR = "/opt/af/xrdcl-proxy"
"""Where images of profiles carry the configuration of the client's proxy plugin."""
ANSWERS: Body = {"exec": {"command": ["xrdfs", f"localhost:{names.XCACHE_PORT}", "query", "config", "version"]}}
"""A probe that speaks to the server as its clients do: one that hangs still takes connections."""
PATIENCE = {"XRD_CONNECTIONWINDOW": "10", "XRD_CONNECTIONRETRY": "6", "XRD_STREAMERRORWINDOW": "10"}
"""Of programs that read. XRootD's own would wait ten minutes for a server that is away, and then take half an hour to
see it back. A cache made anew is there within seconds, one that hung within a minute; what takes longer is an error."""


def enabled(session: Session) -> bool:
    """Return whether the session asks for a cache."""
    return session.spec.xcache is not None


def check(session: Session, profile: Profile) -> None:
    """Raise ``InvalidSession`` when there is no cache in the profile, or not one of that size."""
    facility = profile.spec.xcache
    if facility is None:
        raise InvalidSession("NoXCache", f"profile {profile.name!r} has no xcache: remove xcache from the session")
    size = _spec(session).size
    if pod_spec.parse_quantity(size) > pod_spec.parse_quantity(facility.max_size):
        message = f"xcache.size {size} is over the limit of profile {profile.name!r}: at most {facility.max_size}"
        raise InvalidSession("LimitExceeded", message)
    if pod_spec.parse_quantity(size) < pod_spec.parse_quantity(MIN_SIZE):
        raise InvalidSession("TooSmall", f"xcache.size {size} is too small for a cache: at least {MIN_SIZE}")
    if _spec(session).placement == "Session":
        placement.check("xcache.nodePool", _spec(session).node_pool, profile)


def desired(session: Session, profile: Profile, observed: Settled, terms: Terms) -> Sequence[Manifest | Keep]:
    """Return the configuration and the key; for placement Session also the cache itself."""
    text = config.text(_facility(profile), _spec(session))
    manifests = [render(__name__, "config", name=names.xcache_config(session), config=text)]
    if _spec(session).placement == "Session":
        manifests += [_deployment(session, profile, text), _service(session)]
    if _is_open(session, observed):
        return [_kept(item, observed) for item in manifests]
    return [secret.planned(session, observed), *manifests]


def _is_open(session: Session, observed: Observed) -> bool:
    """Return whether an earlier version has begun the cache, which asks nobody who it is. It stays so to its end."""
    return config.is_earlier(observed.get(CONFIG_MAP.ref(names.xcache_config(session))))


def _kept(item: Manifest, observed: Observed) -> Manifest | Keep:
    """Return what an earlier version has begun as it is: its readers have no key, nor its image all that is needed."""
    is_begun = item.ref.kind in (CONFIG_MAP.kind, DEPLOYMENT.kind) and observed.get(item.ref) is not None
    return Keep(item.ref) if is_begun else item


def pod_patch(session: Session, profile: Profile, observed: Observed, audience: Audience) -> PodPatch:
    """Return what sends `root://` through the cache; for placement Sidecar also the cache itself.

    Everybody reads: the pods where programs start, and the workers alike."""
    host = names.xcache_host(session, _spec(session).placement)
    proxy = {"XRD_PLUGINCONFDIR": PLUGIN_DIR, "XROOT_PROXY": f"root://{host}//"}
    key = PodPatch() if _is_open(session, observed) else secret.patch(session)
    patch = PodPatch(env=tuple(pod_spec.env(proxy | _direct(profile) | PATIENCE))) + key
    if _spec(session).placement == "Session":
        return patch
    return patch + PodPatch(volumes=_volumes(session), sidecars=(_container(session, _facility(profile), key),))


def _direct(profile: Profile) -> dict[str, str]:
    """Let programs write to where results go though the cache be away, or an earlier version's, which is read-only."""
    results, origin = profile.spec.results, _facility(profile).origin.partition(":")[0]
    host = urlsplit(results.url).hostname if results and results.url.startswith("root:") else None
    # The plugin compares ends of names, and no ports: reads from the origin would pass the cache by, too.
    return {} if host is None or origin.endswith(host) else {"XROOT_PROXY_EXCL_DOMAINS": host}


def health(session: Session, observed: Settled) -> Health:
    """Return readiness of the cache: of its own pod, or of the sidecars."""
    return _sidecar_health(observed) if _spec(session).placement == "Sidecar" else _session_health(session, observed)


def _spec(session: Session) -> XCache:
    if session.spec.xcache is None:
        raise TypeError("this session has no XCache")
    return session.spec.xcache


def _facility(profile: Profile) -> ProfileXCache:
    if profile.spec.xcache is None:
        raise InvalidSession("NoXCache", f"profile {profile.name!r} has no xcache")
    return profile.spec.xcache


def _deployment(session: Session, profile: Profile, text: str) -> Manifest:
    # A sidecar has none: that its cache hangs for a moment is no reason to take a notebook off its address.
    readiness = {"readinessProbe": {**ANSWERS, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 2}}
    key = secret.patch(session)
    containers: list[Body] = [{**_container(session, _facility(profile), key), **readiness}]
    volumes = [*_volumes(session), *key.volumes]
    if asked := _spec(session).decision:
        containers.append(decision.container(session, _facility(profile), asked))
        volumes.append(decision.volume(session))
    return render(
        __name__,
        "deployment",
        name=names.xcache(session),
        selector=names.selector(session, NAME),
        labels=names.labels(session, NAME),
        config_hash=pod_spec.digest(text),
        pod=pod_spec.pod(containers, volumes, placement.of(profile, _spec(session).node_pool)),
    )


def _service(session: Session) -> Manifest:
    return render(
        __name__,
        "service",
        name=names.xcache(session),
        selector=names.selector(session, NAME),
        port=names.XCACHE_PORT,
        metrics=decision.PORT_NAME,
        metrics_port=names.XCACHE_METRICS_PORT,
        decision=_spec(session).decision is not None,
    )


def _container(session: Session, facility: ProfileXCache, key: PodPatch) -> Body:
    # Without these a read of a file that is not cached hangs for minutes when the origin is away.
    timeouts = {"XRD_CONNECTIONWINDOW": "3", "XRD_CONNECTIONRETRY": "1", "XRD_STREAMERRORWINDOW": "5"}
    memory = pod_spec.quantity(facility.memory)
    container = pod_spec.container(
        CONTAINER,
        facility.image,
        # As process 1 xrootd ignores SIGTERM, and its pod would hang for 30 s.
        ["tini", "-g", "--", "xrootd", "-c", f"{CONFIG_DIR}/xcache.cfg", "-n", "xcache"],
        env=pod_spec.env(timeouts),
        ports=[{"name": "xrootd", "containerPort": names.XCACHE_PORT, "protocol": "TCP"}],
        # A pod may have as much disk as its containers may together: so the cache's is asked for here.
        resources=pod_spec.fixed_resources(
            ("100m", min("256Mi", memory, key=pod_spec.parse_quantity)), ("2", memory), _disk(session)
        ),
        # The port by name: the CRD of DaskWorkerGroups takes no number here.
        startupProbe={"tcpSocket": {"port": "xrootd"}, "periodSeconds": 1, "failureThreshold": 60},
        # One that hangs would hold whoever reads: it is started again, and is not asked to end itself for long.
        livenessProbe={
            **ANSWERS,
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 4,
            "terminationGracePeriodSeconds": 5,
        },
        volumeMounts=_mounts(),
    )
    container["securityContext"] |= {"readOnlyRootFilesystem": True}
    return pod_spec.patched(container, key)


def _mounts() -> list[Body]:
    return [
        {"name": "xcache-config", "mountPath": CONFIG_DIR, "readOnly": True},
        {"name": "xcache-data", "mountPath": "/cache"},
        {"name": "xcache-run", "mountPath": decision.RUN_DIR},
    ]


def _volumes(session: Session) -> tuple[Body, ...]:
    return (
        {"name": "xcache-config", "configMap": {"name": names.xcache_config(session)}},
        pod_spec.empty_dir("xcache-data", _disk(session)),
        pod_spec.empty_dir("xcache-run", RUN_LIMIT),
    )


def _disk(session: Session) -> str:
    size = pod_spec.parse_quantity(_spec(session).size)
    # The cache stays within its size. Over this limit the kubelet evicts the whole pod, the user's part included.
    return pod_spec.binary_quantity(-(-int(size) // 2**20) * 2**20 + SLACK)


def _session_health(session: Session, observed: Observed) -> Health:
    pods = observed.pods(component=NAME)
    if any(pod_reasons.is_ready(pod) for pod in pods):
        host = names.xcache_host(session, "Session")
        return Health(True, "Ready", "the session's cache is ready", {"xcache": host})
    refused = (pod_reasons.deployment_refused(d) for d in observed.of(DEPLOYMENT) if _is_cache(d))
    trouble = pod_reasons.worst(pods) or next((r for r in refused if r), None) or _silence(pods)
    if trouble:
        return Health(False, trouble.reason, _words(trouble))
    return Health(False, pod_reasons.STARTING, "the session's cache is starting")


def _silence(pods: Sequence[Body]) -> Reason | None:
    since = next((time for pod in pods if (time := pod_reasons.silent_since(pod))), None)
    message = "the session's cache does not answer since {:%H:%M:%S} UTC: reads wait for it, and it is started again"
    return Reason("CacheSilent", message.format(since)) if since else None


def _words(trouble: Reason) -> str:
    if trouble.reason != "OOMKilled":
        return trouble.message
    return "the cache used more memory than the profile's xcache.memory, and begins anew: tell the facility's admin"


def _is_cache(body: Body) -> bool:
    return bool(body["metadata"].get("labels", {}).get(names.COMPONENT) == NAME)


def _sidecar_health(observed: Observed) -> Health:
    """Only a sidecar in trouble counts: those that are starting keep their own pods from being ready."""
    for pod in observed.pods():
        for status in pod_reasons.container_statuses(pod):
            trouble = pod_reasons.container_trouble(pod, status) if status["name"] == CONTAINER else None
            if trouble:
                return Health(False, trouble.reason, f"pod {pod['metadata']['name']}: {_words(trouble)}")
    return Health(True, "InPods", "each pod that reads has a cache of its own")
