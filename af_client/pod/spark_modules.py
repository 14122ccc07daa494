"""Modules of one's own on Spark, in a notebook: functions of those beside it are sent as they are, not by their name.

An extension of IPython, by the image's ``ipython/ipython_kernel_config.py``. Spark's workers do not see a notebook's
home; those of a headless run find its source on their PYTHONPATH. PySpark's pickle can be told to send a module by
value, but only one by one and once it is imported. So the question is answered here for all in the directory. They
follow an edit as soon as they are reloaded.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from af_client.pod.late import when_imported
from af_client.pod.own_directory import own_directory

PICKLE = "pyspark.cloudpickle.cloudpickle"


def load_ipython_extension(_shell: Any) -> None:
    """Wait for PySpark: it takes a second to import, and most notebooks never do."""
    when_imported(PICKLE, answer)


def answer(pickle: ModuleType) -> None:
    """Let PySpark's pickle take our modules as registered, beside those that are."""
    registered = pickle._is_registered_pickle_by_value

    def is_registered(module: ModuleType) -> bool:
        return bool(registered(module)) or is_own(module)

    pickle._is_registered_pickle_by_value = is_registered  # type: ignore[attr-defined]


def is_own(module: ModuleType) -> bool:
    """Return whether a module lies in our own directory."""
    file, directory = getattr(module, "__file__", None), own_directory()
    return isinstance(file, str) and directory is not None and Path(file).resolve().is_relative_to(directory)
