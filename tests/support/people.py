"""Who acts in the tests: service accounts with a role of the chart, each with a kubeconfig of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster import facility as demo
from local_cluster.settings import CHECKOUT
from tests.support.tenant import ENVIRONMENT, Tenant, kubectl, poll

USER_ROLE = "analysisfacility-user"


@dataclass(frozen=True)
class Person:
    """Somebody who has rights in one namespace and nowhere else."""

    name: str
    namespace: str
    kubeconfig: Path

    @classmethod
    def create(cls, tenant: Tenant, name: str, folder: Path, role: str = USER_ROLE) -> Person:
        """Make an account with a role in the tenant's namespace; its kubeconfig goes into `folder`."""
        tenant.kubectl("create", "serviceaccount", name)
        account = f"--serviceaccount={tenant.namespace}:{name}"
        tenant.kubectl("create", "rolebinding", name, f"--clusterrole={role}", account)
        path = folder / f"{tenant.namespace}-{name}.kubeconfig"
        demo.write_user_kubeconfig(tenant.facility.kubectl, path, tenant.namespace, name)
        found = cls(name, tenant.namespace, path)
        poll(lambda: found.may("list", "analysissessions"), f"the rights of {name} are in force", 20)
        return found

    @property
    def user(self) -> str:
        """The name by which the API server knows this account."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        """An environment in which kubectl and af are this person."""
        return ENVIRONMENT | {"KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl as this person and return what it prints and complains."""
        return kubectl(f"--kubeconfig={self.kubeconfig}", *args, stdin=stdin, check=False)

    def may(self, *args: str) -> bool:
        """Return what `kubectl auth can-i` says."""
        return self.kubectl("auth", "can-i", *args).splitlines()[-1] == "yes"

    def af(self, *args: str, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Done:
        """Run `af` as this person, as a process of its own."""
        return af(*args, folder=folder, environment=self.environment | dict(environment or {}))


Done = subprocess.CompletedProcess[str]


def af(*args: str, environment: Mapping[str, str], folder: Path | None = None) -> Done:
    """Run `af`; whatever happens, a traceback is no answer to a user."""
    argv: list[Any] = [sys.executable, "-m", "af_client", *args]
    # -m finds the package from any folder because the project is installed in the environment.
    done = subprocess.run(
        argv, cwd=folder or CHECKOUT, env=dict(environment), capture_output=True, text=True, timeout=240, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done
