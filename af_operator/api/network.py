"""What sessions may reach outside of themselves: the part of a profile about that."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from af_operator.api.common import QUALIFIED_NAME, ApiModel, Format, Rule, rule, rules

LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]


class Destination(ApiModel):
    """Addresses or pods that sessions may connect to."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.cidr) != has(self.namespace)", "write either cidr or namespace; for both, write two entries"
            ),
            rule(
                "!has(self.podLabels) || has(self.namespace)",
                "podLabels choose pods of a namespace: write namespace, or remove podLabels",
                fieldPath=".podLabels",
            ),
        )
    )
    # A format and not the CEL function isCIDR, which Kubernetes has since 1.31 only.
    cidr: (
        Annotated[
            str,
            Field(max_length=43),
            # The format takes these for decimal numbers, and others for octal ones.
            Rule("!self.matches(r'(^|[.:])0[0-9]+[./]')", "write the numbers of an address without leading zeros"),
        ]
        | None
    ) = Field(
        default=None,
        description="Addresses outside the cluster, such as 192.0.2.10/32 or 2001:db8::/64. Those of the cluster "
        "(the chart's network.clusterCidrs) and of metadata services are left out of it.",
        json_schema_extra={"format": "cidr"},
    )
    namespace: (
        Annotated[
            str,
            Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
            Format("write the name of a namespace, such as storage"),
            Rule("!self.startsWith('kube-')", "sessions have no business with the cluster's own pods: remove it"),
        ]
        | None
    ) = Field(
        default=None,
        description="Pods of this namespace of the cluster, but for those of other sessions. The operators' own cannot "
        "be opened.",
    )
    pod_labels: Annotated[
        dict[str, LabelValue],
        Field(max_length=16),
        Rule(
            f"self.all(key, size(key) <= 317 && key.matches(r'{QUALIFIED_NAME}'))",
            "a key of podLabels is the key of a pod's label, such as app.kubernetes.io/name",
        ),
    ] = Field(default_factory=dict, description="Only with namespace: labels of the pods; all of them if left out.")
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        default_factory=list,
        max_length=32,
        description="TCP ports, those of the pods where they are behind a Service; all ports and protocols if left "
        "out.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class ProfileNetwork(ApiModel):
    """What sessions may connect to, on a cluster that enforces NetworkPolicies."""

    egress: Literal["Open", "Closed"] = Field(
        default="Open",
        description="Open: everything outside the cluster that has a public address. Closed: nothing outside the "
        "session but DNS, JupyterHub, the profile's xcache.origin and results.url, and what allow lists. A "
        "NetworkPolicy knows no host names: where origin or results have one that is no Service's, list their "
        "addresses in allow.",
    )
    allow: list[Destination] = Field(
        default_factory=list,
        max_length=32,
        description="What sessions may connect to as well. Never metadata services (169.254.0.0/16), the cluster's own "
        "addresses, the operators' namespace, or other sessions.",
    )
