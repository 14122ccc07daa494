"""What the commands here ask the API server and other HTTP endpoints."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster.errors import ClusterError
from local_cluster.settings import API_URL

TIMEOUT_SECONDS = 2.0


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Say whether a GET of ``url`` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS, context=context) as response:  # noqa: S310 (our URLs)
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def api_ready(pki: Path) -> bool:
    """Say whether the API server with these certificates is ready."""
    if not (pki / "admin.crt").exists():
        return False
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    return answers(f"{API_URL}/readyz", context)


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig."""

    program: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it, return its output; what it complains about is in the error."""
        argv = [str(self.program), f"--kubeconfig={self.kubeconfig}", "--request-timeout=10s", *arguments]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """Return an object, or a list of them, as parsed JSON."""
        return json.loads(self("get", *arguments, "--output=json"))

    def apply(self, manifests: str) -> None:
        """Apply manifests server-side."""
        self(
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=local-cluster",
            "--filename=-",
            stdin=manifests,
        )
