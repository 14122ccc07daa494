"""A whole facility on the local cluster: chart, tenant, origin and catalogue; for the demo and the end-to-end tests."""

import base64
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from local_cluster import locks
from local_cluster.api import Kubectl
from local_cluster.errors import ClusterError
from local_cluster.images import REFERENCES
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT, KUBECONFIG, LOCAL

CHART = CHECKOUT / "helm" / "af-operator"
MANIFESTS = CHECKOUT / "examples" / "facility"
RELEASE = "af-operator"
SYSTEM_NAMESPACE = "af-system"
STORAGE_NAMESPACE = "af-storage"
TENANT = "physics"
USER = "alice"
ORIGIN_NODE_PORT = 31094
HUB_NODE_PORT = 31080
ROLLOUT_SECONDS = 180
LOCK = Path(tempfile.gettempdir()) / f"af-facility-{os.getuid()}.lock"
DASK_OPERATOR = "daskOperator.enabled=true"
TOKEN_LIFETIME = "24h"  # noqa: S105 (a duration)
IMAGE_FIELDS = {"image", "reference"}
"""By which documents name images: ``reference`` where a model lies in one."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Facility:
    """What `install` leaves.

    Attributes
    ----------
    kubectl
        As the administrator.
    user_kubeconfig
        The user's: namespace and token, mode 0600.
    origin
        ``root://`` URL of the origin server as users outside see it.
    hub
        URL of JupyterHub as users outside see it.
    hub_password
        Every user's, made by the chart.
    """

    kubectl: Kubectl
    user_kubeconfig: Path
    origin: str
    hub: str
    hub_password: str = field(repr=False)


def environment() -> dict[str, str]:
    """Return the environment of kubectl and helm: the local cluster's, whatever the shell has."""
    path = f"{LOCAL / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | {"PATH": path, "KUBECONFIG": str(KUBECONFIG)}


def install(progress: Progress, *, dask_operator: bool = False) -> Facility:
    """Bring the facility into the state that chart and manifests describe; fine if it is there.

    Parameters
    ----------
    dask_operator
        Whether profiles may name the engine DaskKubernetes. Where its operator runs already, it stays in any case.

    Raises
    ------
    ClusterError
        Cluster or images are missing, or something does not come up; says what to do next.
    """
    images = image_references()
    kubectl = Kubectl(LOCAL / "bin" / "kubectl", KUBECONFIG)
    address = node_address(kubectl)
    install_chart(progress, kubectl, images, dask_operator=dask_operator)
    with progress.step("applying tenant, origin and catalogue"):
        kubectl.apply(yaml.safe_dump_all(facility_documents(images, address)))
    for namespace in (SYSTEM_NAMESPACE, STORAGE_NAMESPACE):
        await_rollout(progress, kubectl, namespace)
    user_kubeconfig = write_user_kubeconfig(kubectl, LOCAL / f"{USER}.kubeconfig")
    origin, hub = f"root://{address}:{ORIGIN_NODE_PORT}", f"http://{address}:{HUB_NODE_PORT}"
    return Facility(kubectl, user_kubeconfig, origin, hub, hub_password(kubectl))


def image_references(path: Path = REFERENCES) -> dict[str, str]:
    """Return image name -> reference with digest, as the last ``make cluster`` pushed them."""
    if not path.exists():
        raise ClusterError(f"{path} is missing: the images are built and pushed by `make cluster`.")
    return dict(json.loads(path.read_text()))


def node_address(kubectl: Kubectl) -> str:
    """Return the node's address; with a NodePort it is the same from pods and from this machine."""
    try:
        addresses = kubectl.get("nodes")["items"][0]["status"]["addresses"]
    except (ClusterError, IndexError) as error:
        raise ClusterError(f"No cluster answers: start one with `make cluster`.\n{error}") from error
    return next(str(entry["address"]) for entry in addresses if entry["type"] == "InternalIP")


def install_chart(
    progress: Progress, kubectl: Kubectl, images: Mapping[str, str], *, dask_operator: bool = False
) -> None:
    """Install or upgrade the release; does not wait for it."""
    with alone(progress):
        # Sessions whose engine it is need it until they end, and whoever shares the cluster may have some.
        there = kubectl("get", "deployment", "dask-operator", f"-n={SYSTEM_NAMESPACE}", "--ignore-not-found")
        _install_chart(progress, kubectl, images, [DASK_OPERATOR] if dask_operator or there else [])


@contextmanager
def alone(progress: Progress) -> Iterator[None]:
    """Let only one process at a time use helm, which refuses to work on a release that another helm works on."""
    with locks.held(LOCK, lambda: progress.note("another command is installing the chart: waiting for it")):
        yield


def _install_chart(progress: Progress, kubectl: Kubectl, images: Mapping[str, str], settings: Sequence[str]) -> None:
    with progress.step("applying the definitions of the kinds"):
        # helm leaves crds/ alone on an upgrade.
        kubectl.apply("\n---\n".join(file.read_text() for file in sorted((CHART / "crds").glob("*.yaml"))))
    argv = ["helm", "upgrade", "--install", RELEASE, str(CHART), "--skip-crds"]
    argv += ["--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--values", str(MANIFESTS / "values.yaml")]
    argv += [f"--set=image.{name}={images[name]}" for name in ("operator", "hub")]
    argv += [f"--set={setting}" for setting in settings]
    progress.run("helm upgrade --install", argv, LOCAL / "logs" / "helm.log", environment())


def facility_documents(images: Mapping[str, str], address: str) -> list[Document]:
    """Return tenant, origin and catalogue, with this cluster's images and address in them."""
    documents: list[Document] = []
    for name in ("tenant", "origin", "profile"):
        documents += yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text())
    for document in documents:
        for holder in image_holders(document):
            for key in holder.keys() & IMAGE_FIELDS:
                holder[key] = images.get(holder[key], holder[key])
        if document["kind"] == "AnalysisProfile":
            document["spec"]["results"]["url"] = f"root://{address}:{ORIGIN_NODE_PORT}//results"
    return documents


def image_holders(document: Document) -> list[Document]:
    """Return the mappings in which this document names images."""
    if document["kind"] == "AnalysisProfile":
        inference = document["spec"]["inference"]
        sources = [model["source"]["image"] for model in inference["models"]]
        return [*document["spec"]["images"], document["spec"]["xcache"], inference, *sources]
    if document["kind"] == "Deployment":
        return list(document["spec"]["template"]["spec"]["containers"])
    return []


def hub_password(kubectl: Kubectl) -> str:
    """Return the password that the chart made for JupyterHub's users."""
    secret = kubectl.get("secret", "hub", f"--namespace={SYSTEM_NAMESPACE}")
    return base64.b64decode(secret["data"]["shared-password"]).decode()


def await_rollout(progress: Progress, kubectl: Kubectl, namespace: str) -> None:
    """Wait for every Deployment of a namespace; if one does not come up, say what its pods say."""
    argv = ["kubectl", f"--namespace={namespace}", "rollout", "status", "deployment", f"--timeout={ROLLOUT_SECONDS}s"]
    try:
        progress.run(f"deployments of {namespace}", argv, LOCAL / "logs" / f"rollout-{namespace}.log", environment())
    except ClusterError as error:
        pods = kubectl(f"--namespace={namespace}", "get", "pods", "--output=wide")
        warnings = kubectl(f"--namespace={namespace}", "get", "events", "--field-selector=type=Warning")
        logs = f"kubectl -n {namespace} logs deployment/NAME"
        raise ClusterError(f"{error}\n{pods}\n{warnings}\nNext: {logs}") from error


def write_user_kubeconfig(kubectl: Kubectl, path: Path, namespace: str = TENANT, user: str = USER) -> Path:
    """Write a kubeconfig with a fresh token of the tenant's user, for her eyes only."""
    admin = json.loads(kubectl("config", "view", "--raw", "--flatten", "--minify", "--output=json"))
    token = kubectl(f"--namespace={namespace}", "create", "token", user, f"--duration={TOKEN_LIFETIME}").strip()
    name = admin["clusters"][0]["name"]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": admin["clusters"],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": user, "context": {"cluster": name, "user": user, "namespace": namespace}}],
        "current-context": user,
    }
    # A file of mode 0600, with a name that nobody else has.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as partial:
        yaml.safe_dump(config, partial)
    return Path(partial.name).replace(path)
