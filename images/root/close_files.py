"""The image adds this to the end of ROOT's package.

At the end of a process XRootD's Python module stops its library's threads. To close a file that ROOT has still open, as
RDataFrame has its input, would wait for them for ever: the process would never end. What is registered last runs first,
so XRootD's comes before this.
"""

import atexit
import sys

import XRootD.client  # noqa: F401


@atexit.register
def _close_files() -> None:
    root = sys.modules["ROOT"]
    # Otherwise nothing of ROOT's C++ has been used.
    if "_cppyy" in root.__dict__:
        root.gROOT.CloseFiles()
