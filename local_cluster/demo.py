"""``make demo``: a facility on the local cluster, and a user's Z -> mumu analysis from ``af run`` to the plot.

JupyterHub is part of the facility; where it is, and how to log in, is said at the end.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
from rich.console import Console

from local_cluster import facility
from local_cluster.errors import ClusterError
from local_cluster.facility import Facility
from local_cluster.progress import Progress
from local_cluster.settings import CHECKOUT, KUBECONFIG

SESSION = CHECKOUT / "examples" / "zmumu" / "session.yaml"
OUTPUT = CHECKOUT / "out" / "demo"
TIMEOUT_SECONDS = 600
INTERFACES = "/proc/net/dev"
"""Of the origin's pod. XRootD's own counters of connections that are open stand still now and then, for minutes."""
AF = (sys.executable, "-m", "af_client.cli")


@dataclass(frozen=True)
class Finished:
    """A session that has succeeded, and what it cost the origin.

    Attributes
    ----------
    body
        The object as ``af run`` saw it last.
    origin_bytes
        What the origin sent, headers of packets and all, from just before the session was created until it had ended.
    """

    body: Mapping[str, Any]
    origin_bytes: int

    @property
    def name(self) -> str:
        """The session's name."""
        return str(self.body["metadata"]["name"])

    @property
    def seconds_to_ready(self) -> float:
        """From the creation to the start of the program; the API server counts whole seconds."""
        start = datetime.fromisoformat(self.body["status"]["run"]["startTime"])
        return (start - datetime.fromisoformat(self.body["metadata"]["creationTimestamp"])).total_seconds()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run the demo on the local cluster (`make cluster` starts one); the results come to out/demo/."""
    begin = time.monotonic()
    try:
        place = facility.install(Progress())
        finished = analyse(place)
        download(place, finished.name)
        summary = summarise(finished, time.monotonic() - begin)
    except ClusterError as error:
        raise click.ClickException(str(error)) from error
    show(Console(), summary, finished.name, place)


def analyse(place: Facility) -> Finished:
    """Run the session as the tenant's user, with its progress and log on the terminal."""
    before = origin_bytes(place.origin)
    argv = [*AF, "run", str(SESSION), "--output", "json", "--timeout", str(TIMEOUT_SECONDS)]
    done = subprocess.run(argv, env=user_environment(place), cwd=CHECKOUT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise ClusterError(
            f"The analysis has not succeeded: `af run` ended with {done.returncode}; why is said above.\n"
            f"Next: export KUBECONFIG={place.user_kubeconfig}; af list; af status NAME; af logs NAME\n"
            f"and, as the administrator: kubectl --kubeconfig {KUBECONFIG} get events,pods -n {facility.TENANT}"
        )
    return Finished(json.loads(done.stdout)["session"], origin_bytes(place.origin) - before)


def download(place: Facility, name: str) -> None:
    """Fetch the results as the user does; what an earlier demo left goes."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    argv = [*AF, "results", name, "-o", str(OUTPUT)]
    done = subprocess.run(argv, env=user_environment(place), cwd=CHECKOUT, check=False)
    if done.returncode:
        raise ClusterError(f"The results have not come: `af results {name}` ended with {done.returncode}, see above.")


def user_environment(place: Facility) -> dict[str, str]:
    """Return an environment in which `af` is the user and nobody else."""
    return os.environ | {"KUBECONFIG": str(place.user_kubeconfig)}


def origin_bytes(origin: str) -> int:
    """Return how many bytes have left the origin's network interface so far, to whomever."""
    # The library's own defaults wait for half an hour where a server is away; it reads this once, when loaded.
    os.environ.setdefault("XRD_CONNECTIONWINDOW", "10")
    os.environ.setdefault("XRD_CONNECTIONRETRY", "1")
    from XRootD.client import File  # noqa: PLC0415

    with File() as file:
        status, _ = file.open(f"{origin}/{INTERFACES}", timeout=20)
        # Its size is told as 0: without one nothing would be read.
        status, answer = file.read(0, 4096, timeout=20) if status.ok else (status, b"")
    columns = answer.partition(b"eth0:")[2].split() if status.ok else []
    if len(columns) < 9:
        logs = f"kubectl --kubeconfig {KUBECONFIG} -n {facility.STORAGE_NAMESPACE} logs deployment/origin"
        raise ClusterError(f"The origin at {origin} does not say what it has sent: {status.message}\nNext: {logs}")
    return int(columns[8])  # bytes sent; before it are eight columns of what was received


def summarise(finished: Finished, seconds: float) -> dict[str, Any]:
    """Put what is known of the run into out/demo/summary.json, and return it."""
    numbers, performance = (json.loads((OUTPUT / name).read_text()) for name in ("zmumu.json", "performance.json"))
    numbers.pop("histogram")
    path = OUTPUT / "summary.json"
    summary = {
        **numbers,
        **performance,
        "origin_bytes": finished.origin_bytes,
        "seconds_to_ready": finished.seconds_to_ready,
        "seconds_total": round(seconds, 1),
        "session": finished.name,
        "files": sorted({path.name, *(file.name for file in OUTPUT.iterdir())}),
    }
    path.write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def show(console: Console, summary: Mapping[str, Any], name: str, place: Facility) -> None:
    """Print the summary, and where to look next."""
    rows = {
        "events": f"{summary['events']}, of opposite sign {summary['opposite_sign']}, selected {summary['selected']}",
        "mass": f"mean {summary['mass_mean']:.2f} GeV, peak {summary['mass_peak']} GeV (1 GeV bins)",
        "check": f"equal to the file's own masses to {summary['largest_mass_difference']:.0e} GeV, event by event",
        "workers": summary["workers"],
        "read": f"{summary['cache_bytes']:,} bytes from the cache, {summary['origin_bytes']:,} from the origin",
        "passes": f"{summary['first_pass_seconds']} s, again {summary['second_pass_seconds']} s",
        "time": f"{summary['seconds_to_ready']:.0f} s until the run started, {summary['seconds_total']} s in all",
        "files": f"{OUTPUT.relative_to(CHECKOUT)}/: {', '.join(summary['files'])}",
    }
    console.print("\n[bold]Z → μμ[/bold]")
    for title, text in rows.items():
        console.print(f"  [bold]{title:<8}[/bold] {text}", soft_wrap=True, highlight=False)
    look = (
        f"export PATH={CHECKOUT}/.local/bin:{CHECKOUT}/.venv/bin:$PATH",
        f"export KUBECONFIG={place.user_kubeconfig}   # as {facility.USER}",
        f"af list; af status {name}; kubectl get analysissession {name} -o yaml",
        f"export KUBECONFIG={KUBECONFIG}   # as the administrator",
        f"kubectl get pods -A; kubectl explain analysissession.spec; kubectl -n {facility.SYSTEM_NAMESPACE} "
        "logs deployment/af-operator",
    )
    console.print("\nLook around:", *(f"  {line}" for line in look), sep="\n", soft_wrap=True, highlight=False)
    console.print(f"\n[bold]JupyterHub:[/bold] {hub_login(place)}", soft_wrap=True, highlight=False)


def hub_login(place: Facility) -> str:
    """Say where JupyterHub is, and how to log in."""
    return f"{place.hub}   user {facility.USER}, password {place.hub_password}"


if __name__ == "__main__":
    main()
