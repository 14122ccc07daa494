"""The cluster's components: their flags and configuration files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster import cgroups, packages
from local_cluster.settings import (
    CLUSTER,
    DNS_ADDRESS,
    DNS_DOMAIN,
    ETCD_METRICS_URL,
    MAX_PODS,
    NODE,
    NODE_ADDRESS,
    NODE_LABELS,
    NODE_POD_CIDR,
    PAUSE_IMAGE,
    POD_CIDR,
    SERVICE_CIDR,
    Paths,
)

NOBODY_ELSE = json.dumps(
    {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": []}, indent=1
)
"""Whose tokens the API server takes beside those of service accounts. It reads the file again when it changes."""
# In the order they are started.
NAMES = (
    "etcd",
    "containerd",
    "registry",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kube-router",
)


@dataclass(frozen=True)
class Programs:
    """Where the programs are: module name -> program."""

    built: Mapping[str, Path]

    def __getitem__(self, name: str) -> str:
        """Return a program of its own, or the link by which the Kubernetes binary plays the component ``name``."""
        return str(self.built.get(name) or self.built["kubernetes"].with_name(name))


def command(name: str, programs: Programs, paths: Paths) -> list[str]:
    """Return the command line of one component."""
    if name == "containerd":
        return ["containerd", "--config", str(paths.etc / "containerd.toml")]
    if name == "registry":
        return ["docker-registry", "serve", str(paths.etc / "registry.json")]
    flags = {
        "etcd": _etcd,
        "kube-apiserver": _apiserver,
        "kube-controller-manager": _controller_manager,
        "kube-scheduler": _scheduler,
        "kubelet": _kubelet,
        "kube-proxy": _proxy,
        "kube-router": _router,
    }[name](paths)
    return [programs[name], *(f"--{flag}={value}" for flag, value in flags.items())]


def _etcd(paths: Paths) -> dict[str, Any]:
    return {
        "name": NODE,
        "data-dir": paths.run / "etcd",
        # Loopback of the cluster's own namespace: no pod gets there.
        "listen-client-urls": "http://127.0.0.1:2379",
        "advertise-client-urls": "http://127.0.0.1:2379",
        "listen-peer-urls": "http://127.0.0.1:2380",
        "initial-advertise-peer-urls": "http://127.0.0.1:2380",
        "initial-cluster": f"{NODE}=http://127.0.0.1:2380",
        "listen-metrics-urls": ETCD_METRICS_URL,
        # The data does not outlive the processes anyway.
        "unsafe-no-fsync": "true",
        "quota-backend-bytes": 4 << 30,
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "10m",
    }


def _apiserver(paths: Paths) -> dict[str, Any]:
    pki = paths.pki
    return {
        "etcd-servers": "http://127.0.0.1:2379",
        "bind-address": "0.0.0.0",
        "advertise-address": NODE_ADDRESS,
        "service-cluster-ip-range": SERVICE_CIDR,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        # The second is what hardened clusters have, and what controllers without finalizer rights trip over.
        "enable-admission-plugins": "NodeRestriction,OwnerReferencesPermissionEnforcement",
        "client-ca-file": pki / "ca.crt",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "kubelet-certificate-authority": pki / "ca.crt",
        "kubelet-client-certificate": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP",
        "authentication-config": paths.authentication,
        "service-account-issuer": f"https://kubernetes.default.svc.{DNS_DOMAIN}",
        "service-account-key-file": pki / "service-accounts.pub",
        "service-account-signing-key-file": pki / "service-accounts.key",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "proxy-client-cert-file": pki / "front-proxy-client.crt",
        "proxy-client-key-file": pki / "front-proxy-client.key",
        "audit-policy-file": Path(__file__).resolve().parent / "audit-policy.yaml",
        "audit-log-path": paths.audit_log,
        # Megabytes, files: about ten hours of tests, and a bound.
        "audit-log-maxsize": 200,
        "audit-log-maxbackup": 2,
        "profiling": "false",
    }


def _controller_manager(paths: Paths) -> dict[str, Any]:
    return _client(paths, "kube-controller-manager") | {
        "use-service-account-credentials": "true",
        "root-ca-file": paths.pki / "ca.crt",
        "service-account-private-key-file": paths.pki / "service-accounts.key",
        "allocate-node-cidrs": "true",
        "cluster-cidr": POD_CIDR,
        "service-cluster-ip-range": SERVICE_CIDR,
        "cluster-name": CLUSTER,
        "leader-elect": "false",
        "profiling": "false",
        # The default of 20/s makes its own start take 6 s, and a test wait for it rather than for what it tests.
        "kube-api-qps": 200,
        "kube-api-burst": 400,
    }


def _scheduler(paths: Paths) -> dict[str, Any]:
    return _client(paths, "kube-scheduler") | {"leader-elect": "false", "profiling": "false"}


def _client(paths: Paths, name: str) -> dict[str, Any]:
    kubeconfig = paths.pki / f"{name}.kubeconfig"
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
    }


def _kubelet(paths: Paths) -> dict[str, Any]:
    return {
        "config": paths.etc / "kubelet.json",
        "kubeconfig": paths.pki / "kubelet.kubeconfig",
        "root-dir": paths.kubelet,
        "cert-dir": paths.run / "kubelet-certificates",
        "hostname-override": NODE,
        "node-ip": NODE_ADDRESS,
        "node-labels": ",".join(f"{label}={value}" for label, value in NODE_LABELS.items()),
    }


def _proxy(paths: Paths) -> dict[str, Any]:
    return {
        "kubeconfig": paths.pki / "kube-proxy.kubeconfig",
        "hostname-override": NODE,
        "proxy-mode": "iptables",
        "cluster-cidr": POD_CIDR,
        # The conntrack table belongs to the host: not ours to resize.
        "conntrack-max-per-core": 0,
        "conntrack-tcp-timeout-established": "0",
        "conntrack-tcp-timeout-close-wait": "0",
        "iptables-localhost-nodeports": "false",
        "iptables-min-sync-period": "0s",
    }


def _router(paths: Paths) -> dict[str, Any]:
    return {
        "kubeconfig": paths.pki / "kube-router.kubeconfig",
        "hostname-override": NODE,
        # The firewall alone: NetworkPolicies. Addresses and Services are what the bridge and kube-proxy do.
        "run-firewall": "true",
        "run-router": "false",
        "run-service-proxy": "false",
        "run-loadbalancer": "false",
        "enable-cni": "false",
        "service-cluster-ip-range": SERVICE_CIDR,
        "health-port": 0,
    }


def write_configuration(paths: Paths) -> None:
    """Write the files that the command lines name."""
    paths.etc.mkdir(parents=True, exist_ok=True)
    cni = paths.etc / "cni"
    cni.mkdir(exist_ok=True)
    (cni / "10-bridge.conflist").write_text(json.dumps(_cni(paths), indent=1))
    paths.authentication.write_text(NOBODY_ELSE)
    (paths.etc / "kubelet.json").write_text(json.dumps(_kubelet_configuration(paths), indent=1))
    (paths.etc / "registry.json").write_text(json.dumps(_registry(paths), indent=1))
    (paths.etc / "containerd.toml").write_text(_containerd(paths))
    # No search domain and no resolver of the host: nothing in the cluster can reach one.
    (paths.etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")


def _cni(paths: Paths) -> dict[str, Any]:
    ipam = {
        "type": "host-local",
        "dataDir": str(paths.run / "cni"),
        "ranges": [[{"subnet": NODE_POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": ipam}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": CLUSTER, "plugins": [bridge, portmap]}


def _kubelet_configuration(paths: Paths) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(paths.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(paths.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(paths.pki / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{paths.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups.ROOT,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DNS_DOMAIN,
        "resolvConf": str(paths.etc / "resolv.conf"),
        "maxPods": MAX_PODS,
        "podLogsDir": str(paths.logs / "pods"),
        "volumePluginDir": str(paths.run / "volume-plugins"),
        "failSwapOn": False,
        # Lowering it needs a capability that is often missing in a container.
        "oomScoreAdj": 0,
        "serializeImagePulls": False,
        # The state directory shares a disk with everything else: neither collect images nor evict pods over it.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


def _registry(paths: Paths) -> dict[str, Any]:
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(paths.registry)}, "delete": {"enabled": True}},
        "http": {"addr": "0.0.0.0:5000"},
    }


def _containerd(paths: Paths) -> str:
    cri = '"io.containerd.grpc.v1.cri"'
    unused = [f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")]
    return _toml(
        {
            "": {
                "version": 2,
                "root": str(paths.containerd_root),
                "state": str(paths.containerd_state),
                "disabled_plugins": unused,
            },
            "grpc": {"address": str(paths.containerd_socket)},
            'plugins."io.containerd.internal.v1.opt"': {"path": str(paths.run / "containerd-opt")},
            f"plugins.{cri}": {
                "sandbox_image": PAUSE_IMAGE,
                # Without CAP_SYS_RESOURCE every sandbox fails otherwise: "can't get final child's PID from pipe".
                "restrict_oom_score_adj": True,
                # Then whatever is mounted for a pod lies below our own directory, and can be found again.
                "netns_mounts_under_state_dir": True,
            },
            f"plugins.{cri}.containerd": {"snapshotter": "overlayfs", "default_runtime_name": "runc"},
            f"plugins.{cri}.containerd.runtimes.runc": {"runtime_type": "io.containerd.runc.v2"},
            f"plugins.{cri}.containerd.runtimes.runc.options": {"Root": str(paths.run / "runc")},
            f"plugins.{cri}.cni": {"bin_dir": str(packages.CNI_PLUGINS), "conf_dir": str(paths.etc / "cni")},
        }
    )


def _toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    # JSON's strings, numbers, booleans and lists of strings are TOML's too.
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]"] if name else []
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
