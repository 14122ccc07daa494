"""An operator as a process of this machine, with a proxy before the API server: killed at any of its writes.

It has the rights of the one in the cluster, by a token of that one's ServiceAccount, and sees the cluster's DNS names.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from local_cluster.facility import SYSTEM_NAMESPACE
from local_cluster.settings import DNS_ADDRESS, DNS_DOMAIN, KUBECONFIG
from tests.support import operator_pod
from tests.support.api_proxy import ApiProxy
from tests.support.local_operator import LocalOperator
from tests.support.tenant import kubectl

# In a mount namespace of its own, where another file lies over the machine's resolver configuration.
SHELL = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


class OperatorProcess(LocalOperator):
    """One that takes the place of the pods.

    Parameters
    ----------
    kubeconfig
        Of the proxy.
    directory
        For its log and the resolver's configuration.
    """

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        resolver = directory / "resolv.conf"
        resolver.write_text(f"nameserver {DNS_ADDRESS}\nsearch {DNS_DOMAIN}\noptions ndots:5\n")  # as in a pod
        # One identity: it takes up its own Lease at once.
        settings = {"NAMESPACE": SYSTEM_NAMESPACE, "IDENTITY": "operator-under-test"}
        settings["NETWORK"] = operator_pod.setting("NETWORK")
        super().__init__(kubeconfig, directory, settings, ["unshare", "--mount", "sh", "-c", SHELL, str(resolver)])


@contextmanager
def instead_of_the_pods() -> Iterator[tuple[ApiProxy, OperatorProcess]]:
    """Scale the cluster's operator to 0, and give a process that may take its place."""
    replicas = len(operator_pod.pods())
    with tempfile.TemporaryDirectory(prefix="af-operator-") as name, _proxy(Path(name)) as proxy:
        directory = Path(name)
        process = OperatorProcess(proxy.kubeconfig(directory / "kubeconfig"), directory)
        operator_pod.scale(0)
        try:
            yield proxy, process
        finally:
            process.kill()
            process.wait()
            operator_pod.system("delete", "lease", operator_pod.NAME, "--ignore-not-found")
            operator_pod.scale(replicas)


def _proxy(directory: Path) -> ApiProxy:
    admin = yaml.safe_load(KUBECONFIG.read_text())["clusters"][0]["cluster"]
    flat = json.loads(kubectl("config", "view", "--raw", "--flatten", "--minify", "--output=json"))
    authority = directory / "ca.crt"
    authority.write_bytes(base64.b64decode(flat["clusters"][0]["cluster"]["certificate-authority-data"]))
    token = kubectl("-n", SYSTEM_NAMESPACE, "create", "token", operator_pod.NAME, "--duration=1h").strip()
    return ApiProxy(admin["server"], token, authority)
