"""The operator of dask-kubernetes as a process of this machine, started as the chart starts it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from local_cluster.control_plane import DASK_OPERATOR, ControlPlane
from local_cluster.errors import ClusterError
from local_cluster.processes import poll
from local_cluster.progress import tail
from local_cluster.settings import CHECKOUT
from tests.support.audit import Audit
from tests.support.local_process import LocalProcess

PATCH = CHECKOUT / "images" / "operator" / "owned_default_group.py"
RUN = ("kopf", "run", "-m", "dask_kubernetes.operator.controller", str(PATCH), "--standalone", "--all-namespaces")
WATCHED = {"daskclusters", "daskworkergroups", "daskautoscalers", "daskjobs", "services", "pods"}


class DaskOperator(LocalProcess):
    """One on a control plane of ours."""

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self._plane = plane
        log = directory / "dask-operator.log"
        super().__init__([sys.executable, "-m", *RUN], plane.kubeconfig(DASK_OPERATOR), log)

    def variables(self) -> Mapping[str, str]:
        """Return what the chart sets."""
        return {"DASK_KUBERNETES__CONTROLLER__EVENTS__ENABLED": "false"}

    def start_and_wait(self, seconds: float = 60) -> None:
        """Start it, and wait until it has listed all that it watches.

        Raises
        ------
        ClusterError
            It has not, or has ended; with the end of its log.
        """
        listed: set[str] = set()
        with Audit(self._plane.audit_log) as audit:
            self.start()

            def watches() -> bool:
                listed.update(call.resource for call in audit.news(DASK_OPERATOR) if call.verb == "list")
                return listed >= WATCHED or not self.running()

            if not poll(watches, seconds) or not self.running():
                raise ClusterError(f"dask-kubernetes' operator does not start. The end of its log:\n{tail(self.log)}")
