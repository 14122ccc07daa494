"""XCache: an XRootD cache that `root://` reads go through, without a change in user code.

The cache runs in forwarding mode: the client's proxy plugin asks it for ``/root://origin//path``. In this
mode XCache knows files by their path alone, so exactly one origin is permitted. All of it is here: the configuration,
the cache as a Deployment of the session or as a sidecar of each pod that reads, and its health; ``templates/`` has the
objects.
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
from af_operator.components.xcache import decision
from af_operator.errors import InvalidSession
from af_operator.model import (
    CONFIG_MAP,
    DEPLOYMENT,
    POD,
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
KINDS: tuple[Kind, ...] = (CONFIG_MAP, DEPLOYMENT, SERVICE)
WATCHED: tuple[Kind, ...] = (POD,)
SHARED: tuple[Kind, ...] = ()
KEPT: tuple[Kind, ...] = ()
LIFETIME: Lifetime = "cache"

CONTAINER = "xcache"
MIN_SIZE, RUN_LIMIT = "100Mi", "64Mi"
CONFIG_DIR = "/etc/xcache"
PLUGIN_DIR = "/opt/af/xrdcl-proxy"
"""Where images of profiles carry the configuration of the client's proxy plugin."""

CONFIG = """\
all.role server
xrd.port {port}
xrd.network nodnr
all.adminpath /run/xcache
all.pidpath /run/xcache
# Forwarding: the origin is named in the path, and only this one is permitted.
all.export /root:/ r/o
ofs.osslib libXrdPss.so
pss.cachelib libXrdPfc.so
pss.origin =
pss.permit {host}
oss.localroot /cache
# Less than 1g is refused. It holds blocks in flight, not files.
pfc.ram 1g
pfc.blocksize 512k
pfc.prefetch 0
# The two fractions are of the node's disk; the three numbers are of this cache (a bare number is refused).
pfc.diskusage 0.90 0.95 files {base}k {nominal}k {most}k purgeinterval 60
pfc.trace info
# Reported to nobody. Without it the traffic of a connection is in `query stats` only once it is closed.
xrd.report 127.0.0.1:9 every 1s all sync
"""


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
    """Return the configuration; for placement Session also the cache itself."""
    text = config(_facility(profile), _spec(session))
    manifests = [render(__name__, "config", name=names.xcache_config(session), config=text)]
    if _spec(session).placement == "Session":
        manifests += [_deployment(session, profile, text), _service(session)]
    return manifests


def pod_patch(session: Session, profile: Profile, audience: Audience) -> PodPatch:
    """Return what sends `root://` through the cache; for placement Sidecar also the cache itself.

    Everybody reads: the pods where programs start, and the workers alike."""
    host = names.xcache_host(session, _spec(session).placement)
    proxy = {"XRD_PLUGINCONFDIR": PLUGIN_DIR, "XROOT_PROXY": f"root://{host}//"}
    env = tuple(pod_spec.env(proxy | _direct(profile)))
    if _spec(session).placement == "Session":
        return PodPatch(env=env)
    return PodPatch(env=env, volumes=_volumes(session), sidecars=(_container(session, _facility(profile)),))


def _direct(profile: Profile) -> dict[str, str]:
    """Let programs write to where results go: the cache is read-only, and the plugin sends it writes as well."""
    results, origin = profile.spec.results, _facility(profile).origin.partition(":")[0]
    host = urlsplit(results.url).hostname if results and results.url.startswith("root:") else None
    # The plugin compares ends of names, and no ports: reads from the origin would pass the cache by, too.
    return {} if host is None or origin.endswith(host) else {"XROOT_PROXY_EXCL_DOMAINS": host}


def health(session: Session, observed: Settled) -> Health:
    """Return readiness of the cache: of its own pod, or of the sidecars."""
    return _sidecar_health(observed) if _spec(session).placement == "Sidecar" else _session_health(session, observed)


def config(facility: ProfileXCache, spec: XCache) -> str:
    """Return the configuration of xrootd for a cache as the session wants it."""
    total = int(pod_spec.parse_quantity(spec.size)) // 1024
    host = facility.origin.partition(":")[0]
    watermarks = {"base": total * 70 // 100, "nominal": total * 80 // 100, "most": total * 90 // 100}
    asks = decision.CONFIG if spec.decision else ""
    return CONFIG.format(port=names.XCACHE_PORT, host=host, **watermarks) + asks


def _spec(session: Session) -> XCache:
    if session.spec.xcache is None:
        raise TypeError("this session has no XCache")
    return session.spec.xcache


def _facility(profile: Profile) -> ProfileXCache:
    if profile.spec.xcache is None:
        raise InvalidSession("NoXCache", f"profile {profile.name!r} has no xcache")
    return profile.spec.xcache


def _deployment(session: Session, profile: Profile, text: str) -> Manifest:
    containers, volumes = [_container(session, _facility(profile))], [*_volumes(session)]
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


def _container(session: Session, facility: ProfileXCache) -> Body:
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
        resources=pod_spec.fixed_resources(("100m", "256Mi"), ("2", memory), _disk(session)),
        # Ready once it listens. No probe after that: each one would be a line in its log.
        # The port by name: the CRD of DaskWorkerGroups takes no number here.
        startupProbe={"tcpSocket": {"port": "xrootd"}, "periodSeconds": 1, "failureThreshold": 60},
        volumeMounts=_mounts(),
    )
    container["securityContext"] |= {"readOnlyRootFilesystem": True}
    return container


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
    # XCache purges once a minute; over this limit the kubelet evicts the whole pod, the user's part included.
    return pod_spec.binary_quantity(-(-int(size) // 2**20) * 2**20 + 2**30)


def _session_health(session: Session, observed: Observed) -> Health:
    pods = observed.pods(component=NAME)
    if any(pod_reasons.is_ready(pod) for pod in pods):
        host = names.xcache_host(session, "Session")
        return Health(True, "Ready", "the session's cache is ready", {"xcache": host})
    refused = (pod_reasons.deployment_refused(d) for d in observed.of(DEPLOYMENT) if _is_cache(d))
    trouble = pod_reasons.worst(pods) or next((r for r in refused if r), None)
    if trouble:
        return Health(False, trouble.reason, trouble.message)
    return Health(False, pod_reasons.STARTING, "the session's cache is starting")


def _is_cache(body: Body) -> bool:
    return bool(body["metadata"].get("labels", {}).get(names.COMPONENT) == NAME)


def _sidecar_health(observed: Observed) -> Health:
    """Only a sidecar in trouble counts: those that are starting keep their own pods from being ready."""
    for pod in observed.pods():
        for status in pod_reasons.container_statuses(pod):
            trouble = pod_reasons.container_trouble(pod, status) if status["name"] == CONTAINER else None
            if trouble:
                return Health(False, trouble.reason, f"pod {pod['metadata']['name']}: {trouble.message}")
    return Health(True, "InPods", "each pod that reads has a cache of its own")
