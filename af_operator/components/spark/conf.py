"""Spark's configuration, and the secrets of a session's Spark, all in one Secret. Pure.

Who drives must know the secret by which master, workers and drivers talk to each other, and the key by which their
pages know a token; both are in the configuration, for drivers take them from nowhere else. The token lets clients in:
at the Connect server, the agent, and the pages, which take any token that the key has signed.
"""

from __future__ import annotations

from collections.abc import Mapping

from af_operator import names
from af_operator.components._shared import pod_spec, secrets
from af_operator.components.spark.agent import jws
from af_operator.components.spark.spec import Executors, executors, spec
from af_operator.model import Body, Profile, Session
from af_operator.observed import Observed

DIRECTORY = "/af/spark"
DEFAULTS = "spark-defaults.conf"
LOGGING = "log4j2.properties"
ENVIRONMENT = "spark-env.sh"
TOKEN, RPC_SECRET, PAGE_KEY = "token", "rpc-secret", "page-key"
FIXED = {
    "spark.authenticate": "true",
    "spark.network.crypto.enabled": "true",
    # By default the master takes programs to run from everybody, over HTTP.
    "spark.master.rest.enabled": "false",
    # An event that takes long, as on a busy node, is logged with all its properties, and the secrets are among them:
    # whoever may use sessions in the namespace reads logs.
    "spark.scheduler.listenerbus.logSlowEvent": "false",
    # Executors come when there are tasks, and go again: so that several drivers share the workers. What they have
    # shuffled does not keep them: they give it to others when they go.
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "false",
    # A worker that is to go gives its blocks to others first. It looks whether it has given all away in rounds of this
    # length: of 30 s by default, which an idle one would wait for.
    "spark.storage.decommission.replicationReattemptInterval": "1s",
    "spark.decommission.enabled": "true",
    "spark.storage.decommission.enabled": "true",
    "spark.storage.decommission.rddBlocks.enabled": "true",
    "spark.storage.decommission.shuffleBlocks.enabled": "true",
    # A driver waits for nobody: the first executor may be a minute away.
    "spark.scheduler.minRegisteredResourcesRatio": "0",
    # A bar drawn again and again fills the log of a run, and a notebook does not show it.
    "spark.ui.showConsoleProgress": "false",
    # The agent reads a worker's page, which would tell of a thousand executors that have ended.
    "spark.worker.ui.retainedExecutors": "10",
}
PAGES = "org.apache.spark.ui.JWSFilter"
GUARDED = {
    # The pages of master, workers and drivers are for who has a token.
    "spark.ui.filters": PAGES,
    # What goes over the wire cannot be changed on its way, by default it can (CVE-2025-55039); and nobody can ask for
    # less. With GCM a Spark before 4.3 loses messages (SPARK-56227).
    "spark.network.crypto.authEngineVersion": "2",
    "spark.network.crypto.cipher": "AES/GCM/NoPadding",
    "spark.network.crypto.saslFallback": "false",
}
"""Of sessions that were begun with it: programs of Spark's that differ in one of these do not understand each other."""
CLASSIC = """\
# A classic driver (SparkContext, spark-submit) has a master, and refuses a Connect server beside it.
unset SPARK_REMOTE
"""
QUIET = """\
# A program's own lines are what its log is for.
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n%ex
# It says with each start that it runs without Hadoop's own library.
logger.hadoop.name = org.apache.hadoop.util.NativeCodeLoader
logger.hadoop.level = error
"""


def secret(session: Session, profile: Profile, observed: Observed) -> dict[str, str]:
    """Return the Secret's data, in base64: token, RPC secret, key of the pages, and the files of the configuration."""
    name = names.spark(session)
    token, rpc_secret, key = (secrets.kept(session, observed, name, each) for each in (TOKEN, RPC_SECRET, PAGE_KEY))
    rpc_secret = rpc_secret or observed.token(f"spark {RPC_SECRET}")
    # One with a token but no key was made by a version whose pages asked for nothing: its Spark ends as it was begun.
    key = key or ("" if token else observed.token(f"spark {PAGE_KEY}"))
    defaults = _defaults(session, executors(session, profile), rpc_secret, key)
    files = {
        DEFAULTS: "".join(f"{key} {value}\n" for key, value in sorted(defaults.items())),
        LOGGING: QUIET,
        ENVIRONMENT: CLASSIC,
    }
    values = {TOKEN: token or jws.signed(key), RPC_SECRET: rpc_secret} | ({PAGE_KEY: key} if key else {})
    return secrets.encoded(values | files)


def asked_with(session: Session, observed: Observed) -> str:
    """Return the token by which the agent knows who asks; empty before the Secret is there."""
    return secrets.kept(session, observed, names.spark(session), TOKEN)


def token(session: Session, variable: str) -> Body:
    """Return the token as a variable of a container."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": names.spark(session), "key": TOKEN}}}


def page_key(session: Session, variable: str) -> Body:
    """Return the key of the pages as a variable of a container, where the session has one."""
    key = {"name": names.spark(session), "key": PAGE_KEY, "optional": True}
    return {"name": variable, "valueFrom": {"secretKeyRef": key}}


def volume(session: Session, *files: str) -> Body:
    """Return the volume with these files of the configuration."""
    items = [{"key": file, "path": file} for file in files]
    return {"name": "spark-conf", "secret": {"secretName": names.spark(session), "items": items}}


MOUNT: Body = {"name": "spark-conf", "mountPath": DIRECTORY, "readOnly": True}
"""Where ``SPARK_CONF_DIR`` points to."""


def env() -> list[Body]:
    """Return the variables of every process of Spark: where its configuration is, and the address that it has."""
    own_address = {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}
    return [*pod_spec.env({"SPARK_CONF_DIR": DIRECTORY}), {"name": "SPARK_LOCAL_HOSTNAME", "valueFrom": own_address}]


def executor_options(shape: Executors) -> dict[str, str]:
    """Return the options that say how large an executor is."""
    return {"spark.executor.cores": str(shape.cores), "spark.executor.memory": f"{shape.heap_mib}m"}


def _defaults(session: Session, shape: Executors, rpc_secret: str, page_key: str) -> Mapping[str, str]:
    master = names.spark_url(session, "spark", names.SPARK_MASTER_PORT)
    # What a session may set is none of ours: the schema has the list.
    own = FIXED | executor_options(shape) | {"spark.master": master, "spark.authenticate.secret": rpc_secret}
    guard = GUARDED | {f"spark.{PAGES}.param.secretKey": page_key} if page_key else {}
    return {**spec(session).conf, **own, **guard}
