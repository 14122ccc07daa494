"""What is hostile in pods and in other objects, where it stands, and what may stand there: by name, as tables."""

from __future__ import annotations

from typing import Any

from tests.support.bounded import LABEL, OWNER, UID

SYSTEM, TENANT, LAX = "af-system", "physics", "lax"
"""The operators' namespace, one for sessions, and one for them that enforces no Pod Security."""
POD_PATHS = {"Pod": "spec", "Deployment": "spec/template/spec", "Job": "spec/template/spec"}
FIRST = "containers/0"
IN_PODS: dict[str, tuple[str, Any, Any]] = {
    "the node's files": ("volumes/+", {"name": "x", "hostPath": {"path": "/"}}, {"name": "x", "emptyDir": {}}),
    "a token": (
        "volumes/+",
        {"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {"name": "x", "secret": {"secretName": "s"}},
    ),
    "another's claim": (
        "volumes/+",
        {"name": "x", "persistentVolumeClaim": {"claimName": "database"}},
        {"name": "x", "persistentVolumeClaim": {"claimName": "home-alice"}},
    ),
    "the node's network": ("hostNetwork", True, False),
    "its processes": ("hostPID", True, False),
    "its IPC": ("hostIPC", True, False),
    "its port": (f"{FIRST}/ports", [{"containerPort": 80, "hostPort": 80}], [{"containerPort": 80}]),
    "more privilege": (f"{FIRST}/securityContext/allowPrivilegeEscalation", True, False),
    "a capability": (
        f"{FIRST}/securityContext/capabilities",
        {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
        {"drop": ["ALL"]},
    ),
    "sysctls": ("securityContext/sysctls", [{"name": "kernel.msgmax", "value": "1"}], []),
    "root": ("securityContext/runAsUser", 0, 1001),
    "perhaps root": ("securityContext/runAsNonRoot", False, True),
    "any system call": ("securityContext/seccompProfile", {"type": "Unconfined"}, {"type": "RuntimeDefault"}),
    "another account": ("serviceAccountName", "af-operator", "default"),
    "an account's token": ("automountServiceAccountToken", True, False),
    "the priority of a node's own": ("priorityClassName", "system-node-critical", None),
    "a node": ("nodeName", "control-plane-1", None),
    "a runtime of its own": ("runtimeClassName", "unconfined", None),
    "a scheduler of its own": ("schedulerName", "mine", "default-scheduler"),
    "a request of the kubelet": (
        f"{FIRST}/lifecycle",
        {"postStart": {"httpGet": {"host": "169.254.169.254", "path": "/", "port": 80}}},
        {"postStart": {"httpGet": {"path": "/", "port": 80}}},
    ),
}
OBJECTS: dict[str, tuple[str, str, Any, Any]] = {
    "a pod of another session": ("Pod", "metadata/labels", {LABEL: "1-2-3"}, {LABEL: UID}),
    "a pod of no session": (
        "Pod",
        "metadata/ownerReferences",
        None,
        [OWNER],
    ),
    "a finalizer": ("ConfigMap", "metadata/finalizers", ["example.org/never"], []),
    "a token's Secret": ("Secret", "type", "kubernetes.io/service-account-token", "Opaque"),
    "a port of each node": ("Service", "spec/type", "NodePort", "ClusterIP"),
    "an address of the facility": ("Service", "spec/externalIPs", ["192.0.2.1"], None),
    "traffic of others": ("Service", "spec/selector", {"app": "database"}, {LABEL: UID}),
    "another namespace": ("ConfigMap", "metadata/namespace", SYSTEM, TENANT),
    "Kubernetes' namespace": ("ConfigMap", "metadata/namespace", "kube-system", LAX),
    "a right on all Secrets": ("Role", "rules/0/resourceNames", None, ["notebook-notebook"]),
    "a right to pods": ("Role", "rules/0/resources", ["pods"], ["secrets"]),
    "a binding of everybody": (
        "RoleBinding",
        "subjects",
        [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}],
        [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    ),
    "a binding of the admin's role": (
        "RoleBinding",
        "roleRef",
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "notebook-notebook"},
    ),
    "a volume of another": ("PersistentVolumeClaim", "spec/volumeName", "of-another", None),
}
