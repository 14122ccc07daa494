"""What the inference server did beside others, what it should do, and both as tables and a picture."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from matplotlib.figure import Figure

from benchmarks._inference_load import GRPC, TFAAS, V2_BINARY, V2_JSON, Case, Load
from benchmarks._scale_numbers import machine
from benchmarks._tables import HERE, Numbers, Row, markdown, put_between, write_json

BEGIN, END = "<!-- numbers: written by benchmarks.inference -->", "<!-- end of the numbers -->"
PROTOCOLS = (TFAAS, V2_JSON, V2_BINARY, GRPC)
FEW, MANY = 8, 64
ROWS = (1, 100)


@dataclass(frozen=True)
class Found:
    """What one server did."""

    title: str
    ready_seconds: float
    resident_mib: float
    loads: Mapping[Case, Load]


@dataclass(frozen=True)
class Goal:
    """A number that is to be at least, or at most, something."""

    title: str
    value: float
    bound: float
    least: bool = True
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it is so."""
        return self.value >= self.bound if self.least else self.value <= self.bound

    def row(self) -> Row:
        """Return it as a row of a table."""
        sign = "≥" if self.least else "≤"
        said = (f"{self.value:,.{_digits(self.value)}f}{self.unit}", f"{sign} {self.bound:,g}{self.unit}")
        return self.title, *said, "met" if self.met else "missed"


def goals(found: Found, baseline: float) -> Iterator[Goal]:
    """Yield what our server is to reach; the baseline is in rows each second."""

    def rate(protocol: str, rows: int) -> float:
        return found.loads[Case(protocol, rows, MANY)].requests

    yield Goal("V2 binary, 100 rows: rows/s of the baseline's", rate(V2_BINARY, 100) * 100 / baseline, 1.2)
    yield Goal("gRPC, 100 rows: requests/s", rate(GRPC, 100), 3000)
    yield Goal("TFaaS JSON, single rows: requests/s", rate(TFAAS, 1), 6000)
    yield Goal("TFaaS JSON, 100 rows: rows/s of the baseline's", rate(TFAAS, 100) * 100 / baseline, 0.55)
    slowest = max(found.loads[Case(protocol, 1, FEW)].p99_ms for protocol in PROTOCOLS)
    yield Goal(f"p99 at {FEW} clients, single rows, of the slowest protocol", slowest, 5, least=False, unit=" ms")
    yield Goal("start to ready", found.ready_seconds, 2, least=False, unit=" s")
    yield Goal("resident with one model", found.resident_mib, 150, least=False, unit=" MiB")


def tables(servers: Sequence[Found], baseline: float) -> Iterator[Numbers]:
    """Yield all tables."""
    head = ("", "measured", "goal", "")
    yield Numbers(
        f"At {MANY} clients, server and client on one core each",
        head,
        tuple(goal.row() for goal in goals(servers[0], baseline)),
    )
    columns = ("server", "protocol", "rows", "clients", "requests/s", "CPU of the server", "requests/s and core")
    more = ("by the baseline", "p50", "p99", "busy: server, client")
    yield Numbers("All that was measured", (*columns, *more), tuple(_rows(servers, baseline)))
    starts = tuple((s.title, f"{s.ready_seconds:.2f} s", f"{s.resident_mib:.0f} MiB") for s in servers)
    yield Numbers("Start", ("server", "ready after", "resident"), starts)


def write(servers: Sequence[Found], direct: Mapping[str, Any], absent: Sequence[str], load: float) -> None:
    """Write ``inference.json``, ``inference.png`` and the numbers of the README."""
    said = {name: version(name) for name in ("onnxruntime", "uvicorn", "grpcio")} | {
        "Python": platform.python_version()
    }
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": said, "load_before": load}
    baseline = direct["calls"] * 100
    numbers = [
        {
            "server": each.title,
            "ready_seconds": each.ready_seconds,
            "resident_mib": each.resident_mib,
            "loads": [asdict(case) | asdict(found) for case, found in each.loads.items()],
        }
        for each in servers
    ]
    kept = {"baseline_rows_per_second": baseline, "tensorflow": direct["version"], "absent": list(absent)}
    write_json(HERE / "inference.json", about | kept | {"servers": numbers})
    draw(servers, baseline).savefig(HERE / "inference.png", dpi=150)
    versions = ", ".join(f"{name} {number}" for name, number in said.items())
    text = f"{about['date']}, {about['machine']}, load {load} before; {versions}. Baseline: {baseline:,.0f} rows/s"
    text += f" (TensorFlow {direct['version']})." + "".join(f" {each}" for each in absent) + "\n"
    put_between(BEGIN, END, text + markdown(tables(servers, baseline)))


def draw(servers: Sequence[Found], baseline: float) -> Figure:
    """Return the rates at many clients as bars: of single rows, and of a hundred."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, rows in zip(figure.subplots(1, 2), ROWS, strict=True):
        for place, each in enumerate(servers):
            rates = [each.loads.get(Case(protocol, rows, MANY)) for protocol in PROTOCOLS]
            heights = [rate.requests * rows if rate else 0 for rate in rates]
            places = [number + 0.8 * (place + 0.5) / len(servers) - 0.4 for number in range(len(PROTOCOLS))]
            axes.bar(places, heights, 0.8 / len(servers), label=each.title)
        axes.set_xticks(range(len(PROTOCOLS)), PROTOCOLS)
        axes.set_title(f"{rows} row{'s' if rows > 1 else ''} a request, {MANY} clients")
        axes.set_ylabel("rows/s")
    axes.axhline(baseline, color="black", linestyle=":", label="SavedModel, in process")
    axes.legend(fontsize="small")
    return figure


def _rows(servers: Sequence[Found], baseline: float) -> Iterator[Row]:
    for each in servers:
        for case, load in each.loads.items():
            by = f"{load.requests * 100 / baseline:.2f}" if case.rows == 100 else ""
            rate = (f"{load.requests:,.0f}", f"{load.cpu_us:.0f} µs", f"{1e6 / load.cpu_us:,.0f}", by)
            times = (
                f"{load.p50_ms:.2f} ms",
                f"{load.p99_ms:.2f} ms",
                f"{load.server_busy:.2f}, {load.client_busy:.2f}",
            )
            yield each.title, case.protocol, str(case.rows), str(case.clients), *rate, *times


def _digits(value: float) -> int:
    return 0 if value >= 100 else 2
