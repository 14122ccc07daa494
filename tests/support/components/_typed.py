"""What mypy is shown: every component, those of the operator and those of the tests, is one by its types."""

from __future__ import annotations

from af_operator.components import Component, dask, notebook, run, xcache
from tests.support.components import relay

COMPONENTS: tuple[Component, ...] = (dask, notebook, relay, run, xcache)
