"""A control plane without nodes: etcd and kube-apiserver alone, on loopback, for measurements and tests of faults.

Without controllers an object stays as it is made, and no pod ever runs: what is left is what the API server and its
client do. It needs no root and no cluster, and several of them stand side by side. Where nodes are wanted, they are
simulated.
"""

import base64
import csv
import json
import secrets
import socket
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import yaml

from local_cluster import api, binaries, pki, processes, simulated_nodes
from local_cluster.components import NOBODY_ELSE, Programs
from local_cluster.errors import ClusterError
from local_cluster.processes import Daemon
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT

ADMIN, OPERATOR, DASK_OPERATOR, CLIENT = "admin", "af-operator", "dask-operator", "bare-client"
"""Users. All may do everything; they have names of their own so that the audit log can tell them apart."""
CONTROLLERS, SCHEDULER, NODES = "system:kube-controller-manager", "system:kube-scheduler", "simulated-nodes"
"""Kubernetes' own parts. The API server's limits know two of these names, and kubelets stand above limits."""
# No limit of the API server applies to system:masters: who is measured must be like others.
GROUPS = {
    **dict.fromkeys((ADMIN, NODES), ("system:masters",)),
    **dict.fromkeys((OPERATOR, DASK_OPERATOR, CLIENT, CONTROLLERS, SCHEDULER), ("measured",)),
}
START_SECONDS = 60.0
REQUEST_SECONDS = 30.0
IDLE_PERCENT = 10.0
AUTHENTICATION = "authentication.yaml"
CRDS = CHECKOUT / "crds"
NODES_PATH = "/api/v1/nodes"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", *simulated_nodes.COMPONENTS)


@dataclass(frozen=True)
class Options:
    """What a test may want otherwise.

    Attributes
    ----------
    controllers
        Whether owned objects are collected and namespaces end: kube-controller-manager, with those two controllers.
    nodes
        Simulated nodes. With any there are all `controllers`, Deployments get their pods, and pods run.
    event_seconds
        How long Events are kept.
    watch_cache
        Whether the API server remembers what etcd has forgotten; without it, `compact` makes a watch or a list that
        goes on from before it too old at once.
    authentication
        An AuthenticationConfiguration, as text: whose tokens the API server takes, beside those of `GROUPS`.
    """

    controllers: bool = False
    nodes: int = 0
    event_seconds: int = 3600
    watch_cache: bool = True
    authentication: str = ""


@dataclass(frozen=True)
class Ports:
    """Where the programs listen."""

    etcd: int
    peer: int
    api: int


@dataclass(frozen=True)
class ControlPlane:
    """One that is being started, runs, or is being stopped; all its files are in one directory."""

    directory: Path
    ports: Ports
    programs: Programs
    options: Options = Options()
    _tokens: dict[str, str] = field(
        default_factory=lambda: {user: secrets.token_urlsafe(24) for user in GROUPS}, repr=False
    )

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://127.0.0.1:{self.ports.api}"

    @property
    def authority(self) -> Path:
        """PEM file that vouches for the API server."""
        return self.directory / "ca.crt"

    @property
    def audit_log(self) -> Path:
        """JSON lines, one for each request that was answered."""
        return self.directory / "audit.log"

    def token(self, user: str) -> str:
        """Return a user's bearer token."""
        return self._tokens[user]

    def kubeconfig(self, user: str) -> Path:
        """Return a user's kubeconfig."""
        return self.directory / f"{user}.kubeconfig"

    def request(self, verb: str, path: str, body: Any = None, user: str = ADMIN) -> Any:
        """Ask the API server; a patch is merged.

        Raises
        ------
        ClusterError
            With what it answered, if that is no success.
        """
        return self.ask(self.token(user), verb, path, body)

    def ask(self, token: str, verb: str, path: str, body: Any = None) -> Any:
        """Ask the API server with any token; a patch is merged.

        Raises
        ------
        ClusterError
            With what it answered, if that is no success.
        """
        headers = {"Authorization": f"Bearer {token}"}
        if verb == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        return _request(verb, self.server + path, body, headers, self._tls())

    def calm(self, seconds: float = START_SECONDS) -> None:
        """Wait until the API server has done what it does after its start, or for those who have gone.

        Raises
        ------
        ClusterError
            It goes on computing.
        """
        identity = self._daemon("kube-apiserver").identity()
        process = psutil.Process(identity.pid if identity else None)
        if not processes.poll(lambda: process.cpu_percent(interval=1.0) < IDLE_PERCENT, seconds):
            raise ClusterError(f"the API server has computed for {seconds:.0f} s, and nobody has asked it to")

    def compact(self) -> None:
        """Have etcd forget everything but what is: what reads the past is too late."""
        etcd = f"http://127.0.0.1:{self.ports.etcd}/v3/kv"
        now = _request("POST", f"{etcd}/range", {"key": base64.b64encode(b"/").decode(), "count_only": True})
        _request("POST", f"{etcd}/compaction", {"revision": now["header"]["revision"], "physical": True})

    def start(self) -> None:
        """Start everything, and wait until our kinds are served."""
        self._write_files()
        self._start("etcd", _etcd(self))
        health = f"http://127.0.0.1:{self.ports.etcd}/health"
        self._daemon("etcd").wait("waiting for etcd", lambda: api.answers(health), START_SECONDS)
        self._start("kube-apiserver", _apiserver(self))
        ready = f"{self.server}/readyz"
        self._wait("the API server", lambda: api.answers(ready, self._tls()))
        self.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", _BINDING)
        self._install_kinds()
        if self.options.controllers or self.options.nodes:
            # After the kinds: of those that come later it learns half a minute later.
            self._start("kube-controller-manager", _controller_manager(self))
        if self.options.nodes:
            self._start_nodes(self.options.nodes)

    def stop(self) -> None:
        """End what was started, however far that went."""
        # All at once and by force: nothing of it is kept.
        processes.stop_all([self._daemon(name).identity() for name in COMPONENTS], grace_seconds=0.0)

    def _start_nodes(self, number: int) -> None:
        self._start("kube-scheduler", simulated_nodes.scheduler(self.kubeconfig(SCHEDULER)))
        self._start("kwok", simulated_nodes.kwok(self.kubeconfig(NODES)))
        for node in simulated_nodes.nodes(number):
            self.request("POST", NODES_PATH, node)
        kwok = self._daemon("kwok")
        all_ready = partial(self._nodes_are_ready, number)
        kwok.wait(f"waiting for {number} simulated nodes", all_ready, START_SECONDS)

    def _nodes_are_ready(self, number: int) -> bool:
        return simulated_nodes.ready(self.request("GET", NODES_PATH), number)

    def _install_kinds(self) -> None:
        kinds = [yaml.safe_load(file.read_text()) for file in sorted(CRDS.rglob("*.yaml"))]
        for kind in kinds:
            self.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", kind)
        for path in map(_list_path, kinds):
            # 404 before it is served, and 429 until its storage is ready.
            self._wait(f"lists at {path}", partial(self._answers, path))

    def _answers(self, path: str) -> bool:
        try:
            self.request("GET", f"{path}?limit=1")
        except ClusterError:
            return False
        return True

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        self._daemon("kube-apiserver").wait(f"waiting for {what}", ready, START_SECONDS)

    def _start(self, name: str, flags: dict[str, Any]) -> None:
        argv = [self.programs[name], *(f"--{flag}={value}" for flag, value in flags.items())]
        # With us, whatever ends us: nobody else knows of these processes.
        self._daemon(name).start(["setpriv", "--pdeathsig", "KILL", *argv])

    def _daemon(self, name: str) -> Daemon:
        return Daemon(name, self.directory, self.directory)

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    def _write_files(self) -> None:
        authority = pki.Authority.create("control-plane")
        pki.write_pair(self.directory, "ca", authority.key, authority.certificate)
        for name, addresses in {"apiserver": ("127.0.0.1",), "service-accounts": ()}.items():
            pki.write_pair(self.directory, name, *authority.issue(pki.Subject(name, "", addresses)))
        with (self.directory / "tokens.csv").open("w", newline="") as file:
            csv.writer(file).writerows((self.token(u), u, u, ",".join(groups)) for u, groups in GROUPS.items())
        (self.directory / AUTHENTICATION).write_text(self.options.authentication or NOBODY_ELSE)
        for user in GROUPS:
            self.kubeconfig(user).write_text(json.dumps(self._kubeconfig(user)))

    def _kubeconfig(self, user: str) -> dict[str, Any]:
        ca = base64.b64encode(self.authority.read_bytes()).decode()
        cluster = {"server": self.server, "certificate-authority-data": ca}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "plane", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.token(user)}}],
            "contexts": [{"name": "plane", "context": {"cluster": "plane", "user": user}}],
            "current-context": "plane",
        }


@contextmanager
def control_plane(progress: Progress, options: Options = Options()) -> Iterator[ControlPlane]:
    """Start one, and leave nothing of it behind. It ends with the thread that started it, too.

    Raises
    ------
    ClusterError
        With the end of the log of what does not start.
    """
    wanted = (binaries.KUBERNETES, binaries.KWOK) if options.nodes else (binaries.KUBERNETES,)
    programs = Programs(binaries.ensure(progress, *wanted))
    with tempfile.TemporaryDirectory(prefix="af-control-plane-") as name, _reserved(3) as ports:
        plane = ControlPlane(Path(name), Ports(*ports), programs, options)
        try:
            plane.start()
            yield plane
        finally:
            plane.stop()


@contextmanager
def _reserved(number: int) -> Iterator[Sequence[int]]:
    """Give free ports of loopback that stay ours: who binds them, too, must say that they may be shared."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in sockets]


_BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "measured"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "measured"}],
}


def _etcd(plane: ControlPlane) -> dict[str, Any]:
    client, peer = (f"http://127.0.0.1:{port}" for port in (plane.ports.etcd, plane.ports.peer))
    return {
        "name": "plane",
        "data-dir": plane.directory / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"plane={peer}",
        "socket-reuse-port": "true",
        "unsafe-no-fsync": "true",
        "quota-backend-bytes": 4 << 30,
        "log-level": "warn",
    }


def _apiserver(plane: ControlPlane) -> dict[str, Any]:
    directory = plane.directory
    return {
        "etcd-servers": f"http://127.0.0.1:{plane.ports.etcd}",
        "watch-cache": str(plane.options.watch_cache).lower(),
        "event-ttl": f"{plane.options.event_seconds}s",
        "bind-address": "127.0.0.1",
        "secure-port": plane.ports.api,
        "permit-port-sharing": "true",
        "advertise-address": "127.0.0.1",
        "endpoint-reconciler-type": "none",  # it would publish that address, and may not: it is loopback
        "service-cluster-ip-range": "10.96.0.0/12",  # the default has 254 addresses
        "authorization-mode": "RBAC",
        "token-auth-file": directory / "tokens.csv",
        "authentication-config": directory / AUTHENTICATION,
        # Accounts would be waited for, volumes never go, nodes stay tainted: the controllers of these are not here.
        "disable-admission-plugins": "ServiceAccount,StorageObjectInUseProtection,TaintNodesByCondition",
        "tls-cert-file": directory / "apiserver.crt",
        "tls-private-key-file": directory / "apiserver.key",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": directory / "service-accounts.crt",
        "service-account-signing-key-file": directory / "service-accounts.key",
        "max-requests-inflight": 3000,
        "max-mutating-requests-inflight": 1000,
        "audit-policy-file": Path(__file__).with_name("audit-policy.yaml"),
        "audit-log-path": plane.audit_log,
        "audit-log-maxsize": 4000,  # megabytes: it is read to its end, and must not be rotated
        "profiling": "false",
    }


def _controller_manager(plane: ControlPlane) -> dict[str, Any]:
    more = simulated_nodes.CONTROLLERS if plane.options.nodes else ()
    return {
        "kubeconfig": plane.kubeconfig(CONTROLLERS),
        "controllers": ",".join(("garbage-collector-controller", "namespace-controller", *more)),
        "secure-port": 0,
        "leader-elect": "false",
        "kube-api-qps": 500,
        "kube-api-burst": 1000,
        "profiling": "false",
    }


def _list_path(definition: dict[str, Any]) -> str:
    spec = definition["spec"]
    version = next(v["name"] for v in spec["versions"] if v["served"])
    return f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"


def _request(
    verb: str, url: str, body: Any = None, headers: dict[str, str] | None = None, tls: ssl.SSLContext | None = None
) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 (our URLs)
        url, data, {"Content-Type": "application/json", **(headers or {})}, method=verb
    )
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS, context=tls) as response:  # noqa: S310
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            raise ClusterError(f"{verb} {url}: {error.code} {error.read().decode(errors='replace')}") from error
    except OSError as error:
        raise ClusterError(f"{verb} {url}: {error}") from error
