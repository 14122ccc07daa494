"""Which of a model's outputs TFaaS answers with: its protocol knows one."""

from collections.abc import Sequence


def chosen(outputs: Sequence[tuple[str, bool]], wanted: object = None) -> str:
    """Return the name of the output that is the prediction.

    Parameters
    ----------
    outputs
        Names, and whether each holds floating-point numbers; not empty.
    wanted
        ``output_name`` of the model's ``params.json``, which may also name a layer of the source that is gone.

    Returns
    -------
    str
        What is wanted, else the last that holds numbers: classifiers give labels first, then probabilities.
    """
    names = [name for name, _ in outputs]
    if isinstance(wanted, str) and wanted in names:
        return wanted
    return next((name for name, floating in reversed(outputs) if floating), names[-1])
