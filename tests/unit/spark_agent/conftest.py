"""The agent beside the Spark master, before an imitation of Spark's own HTTP that can be broken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from af_operator.components.spark.agent import agent as memory
from tests.support.spark_agent import Asked, Spark


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    monkeypatch.setattr(memory, "PACE", 0.0)
    with ExitStack() as stack:
        yield Asked(stack)


@pytest.fixture
def spark(asked: Asked) -> Spark:
    return asked.spark
