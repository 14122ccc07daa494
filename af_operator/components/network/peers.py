"""Who is meant, and at which ports, in the words of a NetworkPolicy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from af_operator import names
from af_operator.cidrs import Block
from af_operator.model import Body, Session
from af_operator.views import Pods

NAMESPACE = "kubernetes.io/metadata.name"
"""Label that the API server puts on each namespace: nobody can give one the name of another."""


def own(session: Session) -> Body:
    """Return the session's own pods: nobody else can set their label."""
    return {"podSelector": {"matchLabels": names.session_selector(session)}}


def pods(which: Pods) -> Body:
    """Return some pods of another namespace."""
    chosen = {"podSelector": {"matchLabels": dict(which.pod_labels)}} if which.pod_labels else {}
    return _in_namespace(which.namespace, chosen)


def strangers(which: Pods) -> Body:
    """Return some pods of a namespace, but for those of any session."""
    labels = {"matchLabels": dict(which.pod_labels)} if which.pod_labels else {}
    no_session = {"matchExpressions": [{"key": names.SESSION_UID, "operator": "DoesNotExist"}]}
    return _in_namespace(which.namespace, {"podSelector": labels | no_session})


def addresses(block: Block) -> Body:
    """Return a range of addresses."""
    without = {"except": [str(each) for each in block.without]} if block.without else {}
    return {"ipBlock": {"cidr": str(block.cidr), **without}}


def ports(numbers: Iterable[int], protocols: Sequence[str] = ("TCP",)) -> list[Body]:
    """Return ports."""
    return [{"port": number, "protocol": protocol} for number in numbers for protocol in protocols]


def _in_namespace(namespace: str, chosen: Body) -> Body:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE: namespace}}, **chosen}
