"""The session that this code runs in, for notebooks and runs.

Pods of a session have no rights in Kubernetes; what can be said from inside is said to the session's own scheduler,
within what the session's spec allows.

>>> from af_client.here import session
>>> session.scale("gpu", 2)      # now, whatever the tasks ask for
>>> session.scale("gpu", None)   # as the tasks ask for again
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from af_client.errors import BadInput, Unreachable

DASHBOARD_PORT = 8787
SECONDS = 10.0


@dataclass(frozen=True)
class Here:
    """The session around this process.

    Attributes
    ----------
    environ
        Where its addresses stand.
    """

    environ: Mapping[str, str]

    def scale(self, pool: str, workers: int | None) -> None:
        """Want this many workers of an elastic pool, whatever its tasks ask for; None: as they ask for.

        They come and go within `workers.min` and `workers.max` of the session's spec, and go without losing results.

        Raises
        ------
        BadInput
            There is no such elastic pool, or this is no session with Dask.
        Unreachable
            The scheduler does not answer.
        """
        address = self.environ.get("DASK_SCHEDULER_ADDRESS")
        if not address:
            raise BadInput("this is not inside a session with Dask: `af scale NAME POOL N` changes one from outside")
        url = f"http://{urlsplit(address).hostname}:{DASHBOARD_PORT}/af/v1/scale"
        body = json.dumps({"pool": pool, "workers": workers}).encode()
        try:
            # Without the proxies of the environment: the scheduler is in the cluster.
            with build_opener(ProxyHandler({})).open(
                Request(url, body, {"Content-Type": "application/json"}), timeout=SECONDS
            ):
                return
        except HTTPError as error:
            raise BadInput(_message(error)) from error
        except (URLError, OSError) as error:
            raise Unreachable(f"the Dask scheduler at {url} does not answer: {error}") from error


def _message(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"the Dask scheduler answers {error.code}: its Dask was made by an older operator"


session = Here(os.environ)
