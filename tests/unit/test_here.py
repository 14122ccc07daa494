"""What is said from inside a session, to a scheduler that answers or does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from af_client.errors import BadInput, Unreachable
from af_client.pod import agents, here
from af_client.pod.here import Here


class Scheduler(ThreadingHTTPServer):
    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.told: list[tuple[str, object]] = []
        self.shown: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Scheduler

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.append((self.path, body))
        self.server.shown.append(self.headers["Authorization"])
        fine = body["pool"] == "gpu"
        self.send_response(200 if fine else 400)
        self.end_headers()
        self.wfile.write(b"{}" if fine else b'{"error": "pool \'cpu\' is not elastic"}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduler]:
    with Scheduler() as found:
        monkeypatch.setattr(agents, "DASK_DASHBOARD_PORT", found.server_port)
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


INSIDE = Here({"DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:8786"})


def test_scale(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    INSIDE.scale("gpu", 2)
    INSIDE.scale("gpu", None)
    asked = [{"pool": "gpu", "workers": 2}, {"pool": "gpu", "workers": None}]
    assert scheduler.told == [("/af/v1/scale", each) for each in asked]


def test_one_component_may_be_named(scheduler: Scheduler) -> None:
    INSIDE.scale("dask/gpu", 2)
    assert scheduler.told == [("/af/v1/scale", {"pool": "gpu", "workers": 2})]
    with pytest.raises(BadInput, match="no 'quark' with elastic pools; it has: dask"):
        INSIDE.scale("quark/gpu", 2)


def test_of_two_components_one_must_be_named(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(agents.AGENTS, "quark", (lambda environ: environ.get("QUARK"), lambda _: ""))
    both = Here({**INSIDE.environ, "QUARK": f"http://127.0.0.1:{scheduler.server_port}/quark"})
    with pytest.raises(BadInput, match="write dask/gpu or quark/gpu"):
        both.scale("gpu", 2)
    both.scale("quark/gpu", 2)
    assert scheduler.told == [("/quark", {"pool": "gpu", "workers": 2})]


def test_spark_is_told_beside_its_master(scheduler: Scheduler) -> None:
    dask = {"DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.2:8786"}  # where nobody is
    with_spark = Here(dask | {"AF_SPARK_AGENT": f"http://127.0.0.1:{scheduler.server_port}"})
    with_spark.scale("spark/gpu", 2)
    assert scheduler.told == [("/af/v1/scale", {"pool": "gpu", "workers": 2})]
    with pytest.raises(BadInput, match="write dask/gpu or spark/gpu"):
        with_spark.scale("gpu", 2)


def test_each_agent_is_told_its_own_token(scheduler: Scheduler, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-dask\n")
    dask = {**INSIDE.environ, "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(tmp_path / "ca.crt")}
    spark = {"AF_SPARK_AGENT": f"http://127.0.0.1:{scheduler.server_port}", "AF_SPARK_TOKEN": "of-spark"}
    both = Here(dask | spark)
    both.scale("dask/gpu", 2)
    both.scale("spark/gpu", 2)
    INSIDE.scale("gpu", 2)
    assert scheduler.shown == ["Bearer of-dask", "Bearer of-spark", None], "one begun without tokens is shown none"


def test_a_pool_that_is_not_elastic(scheduler: Scheduler) -> None:
    with pytest.raises(BadInput, match="not elastic"):
        INSIDE.scale("cpu", 2)


def test_outside_of_a_session() -> None:
    with pytest.raises(BadInput, match="af scale NAME POOL N"):
        Here({}).scale("gpu", 2)


def test_a_scheduler_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "DASK_DASHBOARD_PORT", 1)
    monkeypatch.setattr(here, "PATIENCE", here.PATIENCE.new(total=1))
    with pytest.raises(Unreachable, match=r":1/af/v1/scale does not answer: \[Errno 111\] Connection refused$"):
        INSIDE.scale("gpu", 2)


def test_a_connection_that_is_refused_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the first seconds of a pod, on a network that enforces policies."""
    with Scheduler() as gone:
        port = gone.server_port
    monkeypatch.setattr(agents, "DASK_DASHBOARD_PORT", port)
    asking = threading.Thread(target=INSIDE.scale, args=("gpu", 2))
    asking.start()
    asking.join(0.5)
    assert asking.is_alive(), "it waits, and says nothing"
    with Scheduler(port) as late:
        late.handle_request()
        asking.join(10)
    assert late.told == [("/af/v1/scale", {"pool": "gpu", "workers": 2})]
