"""The inside of a child: shut in first, then the work, then one line of JSON.

The line is what the server reads of it: ``{"result": …}``, or ``{"status": 422, "error": "…"}`` for whoever uploads.
"""

import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from af_inference.errors import Problem
from af_inference.sandbox import Bounds, enter

Work = Callable[[Path, Sequence[str]], Any]


def main(work: Work) -> None:
    """Do the work that the arguments name: a directory, bounds, and what the work itself takes.

    Parameters
    ----------
    work
        Called with the directory, the only place where it can write, and the remaining arguments.
    """
    folder, bounds = Path(sys.argv[1]), Bounds(*map(int, sys.argv[2:5]))
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is for the log: the answer is one line
    enter(folder, bounds)
    print(json.dumps(_answer(work, folder, sys.argv[5:])), file=answer, flush=True)
    os._exit(0)  # nothing is left to do that is ours: TensorFlow's own end takes a second, and may crash


def _answer(work: Work, folder: Path, arguments: Sequence[str]) -> dict[str, Any]:
    try:
        return {"result": work(folder, arguments)}
    except Problem as problem:
        return {"status": problem.status, "error": str(problem).replace(f"{folder}/", "")}
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return {"status": 507 if full else 422, "error": "the store's volume is full" if full else _said(error)}
    except MemoryError:
        return {"status": 422, "error": "it needs more memory than an upload may take here"}
    except Exception as error:  # noqa: BLE001  (whatever a library says of a file that strangers made)
        return {"status": 422, "error": _said(error)}


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
