"""Make ``model/`` of ``source/``, and try it: ``python -m af_inference.convert DIRECTORY …``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from af_inference.convert import formats, trial
from af_inference.sandbox import program


def convert(folder: Path, _arguments: Sequence[str]) -> dict[str, Any]:
    """Make ``model/model.onnx`` of ``source/``.

    Returns
    -------
    dict
        ``format``, and the largest ``difference`` of the model's answers to the source's, relative to their scale; None
        where nothing could be compared.

    Raises
    ------
    Unprocessable
        It cannot be converted, does not run, or answers otherwise than its source.
    """
    source, target = folder / "source", folder / "model"
    target.mkdir()
    params = json.loads((source / "params.json").read_bytes())
    kind, file = formats.find(source, params)
    original = formats.convert(kind, file, target / "model.onnx", params)
    difference = trial.run(target / "model.onnx", original, source / "sample.npz", params)
    return {"format": kind, "difference": difference}


if __name__ == "__main__":
    program.main(convert)
