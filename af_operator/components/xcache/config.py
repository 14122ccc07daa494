"""The configuration of xrootd for a cache. Pure."""

from __future__ import annotations

from af_operator import names
from af_operator.api.xcache import ProfileXCache, XCache
from af_operator.components._shared import pod_spec
from af_operator.components.xcache import decision, secret
from af_operator.model import Body

FILE = "xcache.cfg"
AUTHENTICATION = "sec.protbind * only sss"
PLUGIN = "/opt/af/lib/libXrdAfCache.so"

CONFIG = """\
# For the plugin of the cache's image: what it answers itself, and how much it keeps.
setenv AF_XCACHE_ORIGIN = {origin}
setenv AF_XCACHE_DISK = {size}
all.role server
xrd.port {port}
xrd.network nodnr
all.adminpath /run/xcache
all.pidpath /run/xcache
# Forwarding: the server is named in the path. Only the origin is permitted; to all others clients are sent themselves.
all.export /root:/ r/o
xrootd.fslib {plugin}
ofs.osslib libXrdPss.so
pss.cachelib libXrdPfc.so
pfc.osslib ++ {plugin}
pss.origin =
pss.permit {host}
oss.localroot /cache
# Less than 1g is refused. It holds blocks in flight, not files.
pfc.ram 1g
# The plugin counts in blocks of this size.
pfc.blocksize 512k
pfc.prefetch 0
# Of what the plugin says is the disk, which is this cache's size.
pfc.diskusage 0.80 0.90 purgeinterval 60
pfc.trace info
# A probe is no news.
xrootd.log -login -disc
# Whoever does not have the session's key gets no answer, whatever is asked. What a client shows is valid for a minute.
xrootd.seclib libXrdSec.so
sec.protocol sss -s {keytab} -l 60
{authentication}
"""


def text(facility: ProfileXCache, spec: XCache) -> str:
    """Return the configuration of a cache as the session wants it."""
    asks = decision.CONFIG if spec.decision else ""
    known = {"origin": facility.origin, "host": facility.origin.partition(":")[0], "plugin": PLUGIN}
    known |= {"keytab": secret.KEYTAB, "authentication": AUTHENTICATION}
    return CONFIG.format(port=names.XCACHE_PORT, size=int(pod_spec.parse_quantity(spec.size)), **known) + asks


def is_earlier(live: Body | None) -> bool:
    """Return whether a live ConfigMap is of a version that asked nobody who it is: its readers have no key.

    Nor does an image of that version need to have all that is configured now.
    """
    return live is not None and AUTHENTICATION not in str((live.get("data") or {}).get(FILE))
