"""The programs of a session's Spark, as objects: master, agent and Connect server in one pod, and workers. Pure.

Master and Connect server share a pod, for one is nothing without the other: a master that lost what it knew (its pod
is another one) never hears of the drivers that it had, and they wait for executors for ever. So they go together. Where
only a container ends it is started again: the master reads what it knew from the pod's own volume, and queries go on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from af_operator import names
from af_operator.api.pools import Pool
from af_operator.components._shared import choices, placement, pod_spec, pools
from af_operator.components.spark import conf
from af_operator.components.spark import spec as specs
from af_operator.components.spark.spec import NAME, Executors
from af_operator.model import (
    CONFIG_MAP,
    DEPLOYMENT,
    SECRET,
    SERVICE,
    Body,
    Keep,
    Manifest,
    PodPatch,
    Profile,
    Session,
    label_of,
)
from af_operator.observed import Observed
from af_operator.render import render

KINDS = (CONFIG_MAP, SECRET, SERVICE, DEPLOYMENT)
ROLE = {names.ROLE: "master"}
PROGRAMS_DIR = "/af/programs"
AGENT = "agent"
"""The package with the agent's code, here and in its pod."""
RECOVERY_DIR, RECOVERY_LIMIT = "/af/recovery", "256Mi"
CONNECT = "connect"
WORKER_UI_PORT = 8081
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 -- of a pod of its own
WORKER_SCRATCH = {"tmp": pod_spec.TMP}
SCRATCH = f"{pod_spec.TMP}/spark"
MASTER_HEAP, WORKER_HEAP = "256m", "128m"
# Both are small programs that mostly wait: a compiler that is soon done, and one thread to collect garbage, are enough.
LEAN_JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
RECOVERY = f"-Dspark.deploy.recoveryMode=FILESYSTEM -Dspark.deploy.recoveryDirectory={RECOVERY_DIR}"
PORTS = {
    "master": names.SPARK_MASTER_PORT,
    "master-ui": names.SPARK_MASTER_UI_PORT,
    "agent": names.SPARK_AGENT_PORT,
    "connect": names.SPARK_CONNECT_PORT,
    "ui": names.SPARK_UI_PORT,
}


def desired(session: Session, profile: Profile, observed: Observed) -> Iterator[Manifest | Keep]:
    """Yield what there is once in a session: configuration, the agent's code, the address, and the pod behind it."""
    name, selector = names.spark(session), names.selector(session, NAME) | ROLE
    yield render(__package__, "secret", name=name, data=conf.secret(session, profile, observed))
    yield render(__package__, "programs", name=names.spark_programs(session), files=_code() | _gpu_lists(session))
    yield render(__package__, "service", name=name, role=ROLE, selector=selector, ports=list(_service_ports()))
    yield _deployment(session, profile, observed, selector)


def worker(session: Session, profile: Profile, patch: PodPatch, pool: Pool) -> Body:
    """Return the pod of a worker, with what other components add to it."""
    size = choices.size(profile, pool.size)
    scratch, mounts = pod_spec.scratch(size, WORKER_SCRATCH)
    gpu_volumes, gpu_mounts = _gpu_volumes(session, pool)
    container = pod_spec.container(
        "worker",
        choices.image(session, profile),
        args=[
            *("spark-class", "org.apache.spark.deploy.worker.Worker", "--host", "$(SPARK_LOCAL_HOSTNAME)"),
            *("--webui-port", str(WORKER_UI_PORT), "--work-dir", f"{SCRATCH}/work"),
            *("--cores", str(pools.threads(pool, size)), "--memory", f"{specs.heap_mib(pool, size)}m"),
            names.spark_url(session, "spark", names.SPARK_MASTER_PORT),
        ],
        env=[*_worker_env(pool), *pod_spec.env(pod_spec.variables(session))],
        ports=[_port("ui", WORKER_UI_PORT)],
        resources=pools.resources(pool, profile),
        readinessProbe=_listens("ui"),
        volumeMounts=[conf.MOUNT, *mounts, *gpu_mounts],
    )
    volumes = [conf.volume(session, conf.DEFAULTS), *scratch, *gpu_volumes, *patch.volumes]
    place = placement.of(profile, pool.node_pool, pool.gpus_per_worker)
    pod = pod_spec.pod([pod_spec.patched(container, patch)], volumes, place)
    return pod_spec.with_sidecars(pod, patch.sidecars)


def is_master(body: Body) -> bool:
    """Return whether a Deployment or a pod is that of master and Connect server."""
    return label_of(body, names.ROLE) == "master" and label_of(body, names.COMPONENT) == NAME


def _deployment(session: Session, profile: Profile, observed: Observed, selector: Mapping[str, str]) -> Manifest | Keep:
    ref, shape = DEPLOYMENT.ref(names.spark(session)), specs.executors(session, profile)
    live = observed.get(ref)
    if live and live.get("spec", {}).get("replicas") == 1 and _fits(live, shape):
        return Keep(ref)  # as it was begun: an edit of the catalogue stops no running session
    labels = names.labels(session, NAME) | ROLE
    pod = _pod(session, profile, shape)
    return render(__package__, "deployment", name=ref.name, role=ROLE, selector=selector, labels=labels, pod=pod)


def _fits(live: Body, shape: Executors) -> bool:
    """Return whether executors as the Connect server asks for them have room in the workers of every pool."""
    containers = live.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
    args = (arg for each in containers if each["name"] == CONNECT for arg in each.get("args", ()))
    asked = dict(arg.partition("=")[::2] for arg in args)
    wanted = conf.executor_options(shape)
    return all(_amount(asked.get(option, "")) <= _amount(value) for option, value in wanted.items())


def _amount(option: str) -> float:
    """Return the number of ``832m`` or ``2``; what is no number fits nowhere."""
    digits = option.removesuffix("m")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else math.inf


def _pod(session: Session, profile: Profile, shape: Executors) -> Body:
    image = choices.image(session, profile)
    volumes = [
        conf.volume(session, conf.DEFAULTS),
        {"name": "programs", "configMap": {"name": names.spark_programs(session)}},
        pod_spec.empty_dir("recovery", RECOVERY_LIMIT),
    ]
    containers = [_connect(session, profile, shape), _master(session, image), _agent(session, image)]
    pod = pod_spec.pod(containers, volumes, placement.of(profile, specs.spec(session).node_pool))
    # The master tells others its own name, which must be the Service's: a master that has started again gives workers
    # its address, and they would look for it there when its pod is another one. What listens by that name listens here.
    return pod | {"hostAliases": [{"ip": ANY_ADDRESS, "hostnames": [names.spark_host(session)]}]}


def _master(session: Session, image: str) -> Body:
    java = {"SPARK_DAEMON_MEMORY": MASTER_HEAP, "SPARK_DAEMON_JAVA_OPTS": f"{LEAN_JAVA} {RECOVERY}"}
    return pod_spec.container(
        "master",
        image,
        args=[
            *("spark-class", "org.apache.spark.deploy.master.Master", "--host", names.spark_host(session)),
            *("--port", str(names.SPARK_MASTER_PORT), "--webui-port", str(names.SPARK_MASTER_UI_PORT)),
        ],
        env=[*conf.env(), *pod_spec.env(java)],
        ports=[_port("master", names.SPARK_MASTER_PORT), _port("master-ui", names.SPARK_MASTER_UI_PORT)],
        resources=pod_spec.fixed_resources(("50m", "384Mi"), ("1", "640Mi")),
        # Not the master's own port: it writes a line for each who hangs up.
        readinessProbe=_listens("master-ui"),
        volumeMounts=[conf.MOUNT, {"name": "recovery", "mountPath": RECOVERY_DIR}],
    )


def _connect(session: Session, profile: Profile, shape: Executors) -> Body:
    size = choices.size(profile, specs.spec(session).size)
    options = {
        "spark.connect.grpc.binding.address": ANY_ADDRESS,
        "spark.connect.grpc.binding.port": str(names.SPARK_CONNECT_PORT),
        "spark.driver.memory": f"{specs.connect_heap_mib(size)}m",
        "spark.ui.port": str(names.SPARK_UI_PORT),
        **conf.executor_options(shape),
    }
    return pod_spec.container(
        CONNECT,
        choices.image(session, profile),
        args=[
            *("spark-submit", "--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
            *("--name", session.name, *(arg for key, value in options.items() for arg in ("--conf", f"{key}={value}"))),
            "spark-internal",
        ],
        # None of the session's own variables: Java would take a whole command line from one of them.
        env=[*conf.env(), conf.token(session, "SPARK_CONNECT_AUTHENTICATE_TOKEN")],
        ports=[_port("connect", names.SPARK_CONNECT_PORT), _port("ui", names.SPARK_UI_PORT)],
        resources=pod_spec.resources(size),
        # No liveness probe: a server that is busy for long would be killed, and what it holds with it.
        readinessProbe=_listens("connect"),
        volumeMounts=[conf.MOUNT],
    )


def _agent(session: Session, image: str) -> Body:
    secret = [conf.token(session, "AF_SPARK_TOKEN"), conf.page_key(session, "AF_SPARK_PAGE_KEY")]
    return pod_spec.container(
        "agent",
        image,
        args=["python", "-m", AGENT],
        workingDir=PROGRAMS_DIR,
        env=[*secret, *pod_spec.env({"AF_SPARK_UI": f"http://127.0.0.1:{names.SPARK_UI_PORT}"})],
        ports=[_port("agent", names.SPARK_AGENT_PORT)],
        resources=pod_spec.fixed_resources(("10m", "64Mi"), ("500m", "192Mi")),
        readinessProbe={"httpGet": {"path": "/health", "port": "agent"}, "periodSeconds": 2, "timeoutSeconds": 5},
        volumeMounts=[{"name": "programs", "mountPath": f"{PROGRAMS_DIR}/{AGENT}", "readOnly": True}],
    )


def _worker_env(pool: Pool) -> list[Body]:
    own_name = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}
    java = {"SPARK_DAEMON_MEMORY": WORKER_HEAP, "SPARK_DAEMON_JAVA_OPTS": LEAN_JAVA}
    if pool.gpus_per_worker:
        resources = "-Dspark.worker.resource.gpu.amount={} -Dspark.worker.resourcesFile={}/{}"
        java["SPARK_WORKER_OPTS"] = resources.format(pool.gpus_per_worker, PROGRAMS_DIR, _gpu_list(pool))
    # By this name, which its page is said to be under, the agent knows which pod a worker is.
    public = {"name": "SPARK_PUBLIC_DNS", "valueFrom": own_name}
    return [*conf.env(), public, *pod_spec.env(java | {"SPARK_LOCAL_DIRS": SCRATCH})]


def _gpu_volumes(session: Session, pool: Pool) -> tuple[list[Body], list[Body]]:
    if not pool.gpus_per_worker:
        return [], []
    items = [{"key": _gpu_list(pool), "path": _gpu_list(pool)}]
    volume = {"name": "programs", "configMap": {"name": names.spark_programs(session), "items": items}}
    return [volume], [{"name": "programs", "mountPath": PROGRAMS_DIR, "readOnly": True}]


def _gpu_lists(session: Session) -> dict[str, str]:
    """Return files that tell a worker of its GPUs: in a pod they have the numbers from 0 on."""
    named = {"componentName": "spark.worker", "resourceName": "gpu"}
    return {
        _gpu_list(pool): json.dumps([{"id": named, "addresses": [str(n) for n in range(pool.gpus_per_worker)]}])
        for pool in specs.spec(session).pools
        if pool.gpus_per_worker
    }


def _gpu_list(pool: Pool) -> str:
    return f"gpus-{pool.gpus_per_worker}.json"


def _service_ports() -> Iterable[dict[str, Any]]:
    for name, number in PORTS.items():
        yield {"name": name, "protocol": "TCP", "port": number, "targetPort": name}


def _port(name: str, number: int) -> Body:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _listens(port: str) -> Body:
    return {"tcpSocket": {"port": port}, "periodSeconds": 1, "timeoutSeconds": 5}


@cache
def _code() -> dict[str, str]:
    sources = (path for path in (files(__package__) / AGENT).iterdir() if path.name.endswith(".py"))
    return {path.name: path.read_text() for path in sorted(sources, key=lambda path: path.name)}
