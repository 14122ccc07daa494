"""What a session's Dask knows itself by: certificates for all that its processes send each other, and a token for HTTP.

Both are in one Secret, made once while the compute lives, and are mounted as files in whatever takes part: scheduler,
workers, and the pods where user programs start. Dask finds the files by variables of its configuration, so that it is
the same for a scheduler, a worker, `Client()` in a notebook and a process that a task starts. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from af_operator import names
from af_operator.components._shared import pod_spec, secrets
from af_operator.components._shared.pki import certificates
from af_operator.model import Body, Manifest, PodPatch, Session
from af_operator.observed import Children, Observed, Settled
from af_operator.render import render

CA, CERTIFICATE, KEY, TOKEN = "ca.crt", "tls.crt", "tls.key", "token"
KEYS = (CA, CERTIFICATE, KEY, TOKEN)
ADDRESS = "DASK_SCHEDULER_ADDRESS"
PLAIN, TLS = "tcp", "tls"
TLS_VERSION = "1.3"
ENDED = ("Succeeded", "Failed")


def planned(session: Session, observed: Settled) -> Iterator[Manifest]:
    """Yield the Secret."""
    if is_encrypted(observed):
        yield render(__package__, "secret", name=names.dask_secret(session), data=_data(session, observed))


def token(session: Session, observed: Observed) -> str:
    """Return what the scheduler's agent wants to see; empty where there is no Secret, or none yet."""
    return secrets.kept(session, observed, names.dask_secret(session), TOKEN) if is_encrypted(observed) else ""


def address(session: Session, observed: Observed) -> str:
    """Return the address of the scheduler, which says by its scheme how it is spoken to."""
    return names.dask_scheduler_address(session, TLS if is_encrypted(observed) else PLAIN)


def patch(session: Session, observed: Observed) -> PodPatch:
    """Return what every process of the session's Dask has; nothing where they do not speak TLS."""
    if not is_encrypted(observed):
        return PodPatch()
    volume = {"name": "dask", "secret": {"secretName": names.dask_secret(session)}}
    mount = {"name": "dask", "mountPath": names.DASK_DIRECTORY, "readOnly": True}
    return PodPatch(env=tuple(pod_spec.env(_configuration())), volumes=(volume,), mounts=(mount,))


def is_encrypted(observed: Observed) -> bool:
    """Return whether the session's processes speak TLS: those that an earlier version began do not, and must go on.

    As long as one of these runs, whatever comes later has to be understood by it. A suspend and resume ends that.
    """
    return not observed.once(_has_plain_ones)


def _data(session: Session, observed: Settled) -> dict[str, str]:
    kept = {key: secrets.kept(session, observed, names.dask_secret(session), key) for key in KEYS}
    return secrets.encoded(kept if all(kept.values()) else _made(session, observed))


def _made(session: Session, observed: Settled) -> dict[str, str]:
    digits = (observed.token("dask CA key"), observed.token("dask key"))
    made = certificates(f"dask {session.uid}", digits, observed.now)
    return {CA: made.ca, CERTIFICATE: made.certificate, KEY: made.key, TOKEN: observed.token("dask token")}


def _configuration() -> dict[str, str]:
    """Return Dask's configuration of all roles: one certificate is shown by servers and clients alike."""
    files = {"CA_FILE": CA}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        files |= {f"{role}__CERT": CERTIFICATE, f"{role}__KEY": KEY}
    values = {f"TLS__{key}": f"{names.DASK_DIRECTORY}/{file}" for key, file in files.items()}
    values |= {"TLS__MIN_VERSION": TLS_VERSION, "REQUIRE_ENCRYPTION": "true", "DEFAULT_SCHEME": TLS}
    return {f"DASK_DISTRIBUTED__COMM__{key}": value for key, value in values.items()}


def _has_plain_ones(children: Children) -> bool:
    return any(map(_is_plain, _pod_specs(children)))


def _pod_specs(children: Children) -> Iterator[Body]:
    """Yield what runs, and what is begun from: pods, and the templates of those who make them anew."""
    for body in children:
        spec, phase = body.get("spec", {}), body.get("status", {}).get("phase")
        if "deletionTimestamp" in body["metadata"] or phase in ENDED:
            continue
        if body["kind"] == "Pod":
            yield spec
        elif body["kind"] == "DaskCluster":
            yield spec.get("scheduler", {}).get("spec", {})
        elif spec.get("replicas"):
            yield spec.get("template", {}).get("spec", {})


def _is_plain(pod: Body) -> bool:
    """Return whether a pod, as it was begun, connects or listens without TLS."""
    return any(_connects_plainly(each) or _listens_plainly(each) for each in pod.get("containers", ()))


def _connects_plainly(container: Body) -> bool:
    found = (each.get("value", "") for each in container.get("env", ()) if each["name"] == ADDRESS)
    return any(value.startswith(f"{PLAIN}://") for value in found)


def _listens_plainly(container: Body) -> bool:
    scheduler = [*container.get("args", ())][:2] == ["dask", "scheduler"]
    return scheduler and all(m["mountPath"] != names.DASK_DIRECTORY for m in container.get("volumeMounts", ()))
