"""What a session's cache knows its readers by: a key that XRootD's clients show, and a token for its counters' page.

Both are in one Secret, made once, and as files in the cache and in all that read through it. XRootD's protocol for it
is `sss`, a simple shared secret: every client has it, and it needs no users, no certificates and no clock but within a
minute. Pure.
"""

from __future__ import annotations

from af_operator import names
from af_operator.components._shared import pod_spec, secrets
from af_operator.model import Body, Manifest, PodPatch, Session
from af_operator.observed import Settled
from af_operator.render import render

# XRootD takes a file that a group may read only if it is called so.
KEY_FILE, TOKEN = "keytab.grp", "token"
KEYTAB = f"{names.XCACHE_DIRECTORY}/{KEY_FILE}"
MOUNT: Body = {"name": "xcache-key", "mountPath": names.XCACHE_DIRECTORY, "readOnly": True}
ENTRY = "0 u:session g:session n:session N:1 c:1 e:0 f:0 k:{key}\n"
"""Of a keytab: format, user, group, the key's name and number, when it was made and ends, and the key itself."""


def planned(session: Session, observed: Settled) -> Manifest:
    """Return the Secret."""
    made = {KEY_FILE: ENTRY.format(key=observed.token("xcache key")), TOKEN: observed.token("xcache token")}
    kept = {key: secrets.kept(session, observed, names.xcache(session), key) for key in made}
    data = secrets.encoded(kept if all(kept.values()) else made)
    return render(__package__, "secret", name=names.xcache(session), data=data)


def patch(session: Session) -> PodPatch:
    """Return what the cache and whoever reads through it have. XRootD refuses a key that anybody may read."""
    source = {"secretName": names.xcache(session), "defaultMode": pod_spec.GROUP_READS}
    volume = {"name": MOUNT["name"], "secret": source}
    return PodPatch(env=tuple(pod_spec.env({"XrdSecSSSKT": KEYTAB})), volumes=(volume,), mounts=(MOUNT,))
