"""Names, addresses and paths of the local cluster."""

import os
from dataclasses import dataclass
from pathlib import Path

CLUSTER = "af-local"
NODE = "af-local"

# The cluster's own little network: a veth pair into the network namespace, pods and services behind it.
HOST_ADDRESS = "10.200.0.254"
NODE_ADDRESS = "10.200.0.1"
LINK_CIDR = "10.200.0.0/24"
POD_CIDR = "10.244.0.0/16"
NODE_POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
DNS_DOMAIN = "cluster.local"

API_URL = f"https://{NODE_ADDRESS}:6443"
REGISTRY_URL = f"http://{NODE_ADDRESS}:5000"
ETCD_METRICS_URL = f"http://{NODE_ADDRESS}:2381"

# The one node stands for two node pools.
NODE_LABELS = {"analysisfacility.io/node-pool-cpu": "true", "analysisfacility.io/node-pool-gpu": "true"}
GPU_RESOURCE = "nvidia.com/gpu"
GPU_COUNT = 2
# Below the 253 addresses of the node's pod range: an address must be left for the pods that are just going.
MAX_PODS = 240

STORAGE_CLASS = "local-volumes"
# One is used up by each home that a test makes, and by each store of uploaded models; `make cluster` makes those anew
# whose claim is gone.
VOLUME_COUNT = 90
VOLUME_SIZE = "20Gi"

PAUSE_IMAGE = "localhost/af-local/pause:1"
COREDNS_IMAGE = "localhost/af-local/coredns:1"

CHECKOUT = Path(__file__).resolve().parent.parent
LOCAL = CHECKOUT / ".local"
KUBECONFIG = LOCAL / "kubeconfig"
GO_MODULES = Path(__file__).resolve().parent / "go"


def cache_dir() -> Path:
    """Where builds are kept, keyed by their inputs, so that a fresh clone finds them again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "af-operator"


@dataclass(frozen=True)
class Paths:
    """The files of one embedded cluster, all under one directory."""

    state: Path = Path("/var/lib/af-local-cluster")

    @property
    def run(self) -> Path:
        """Sockets, pid records and containerd's mounts: worthless once the processes are gone."""
        return self.state / "run"

    @property
    def pki(self) -> Path:
        """Certificates, keys and the components' kubeconfigs."""
        return self.state / "pki"

    @property
    def etc(self) -> Path:
        """Configuration files written for the components."""
        return self.state / "etc"

    @property
    def authentication(self) -> Path:
        """Whose tokens the API server takes: its AuthenticationConfiguration."""
        return self.etc / "authentication.yaml"

    @property
    def logs(self) -> Path:
        """One log per component, of the last cluster only."""
        return self.state / "logs"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: JSON lines."""
        return self.logs / "audit.log"

    @property
    def volumes(self) -> Path:
        """The directories behind the persistent volumes."""
        return self.state / "volumes"

    @property
    def kubelet(self) -> Path:
        """The kubelet's root: pods' directories and their tmpfs mounts."""
        return self.state / "kubelet"

    @property
    def containerd_root(self) -> Path:
        """Image content and snapshots."""
        return self.state / "containerd"

    @property
    def containerd_state(self) -> Path:
        """Mounts, shims' bundles and pods' network namespaces."""
        return self.run / "containerd"

    @property
    def containerd_socket(self) -> Path:
        """The socket that kubelet and ctr speak to; also what tells this cluster's shims from others."""
        return self.containerd_state / "containerd.sock"

    @property
    def registry(self) -> Path:
        """The registry's blobs: a cache worth keeping between clusters."""
        return self.state / "registry"

    @property
    def network_namespace(self) -> Path:
        """The bind mount that keeps the cluster's network namespace alive."""
        return Path("/run/netns") / CLUSTER
