"""Whether the session's notebook server was lost, and with it what kernels held."""

from __future__ import annotations

from af_operator import names
from af_operator.components._shared import lost as losses
from af_operator.model import POD, Body, Condition, Session, label_of
from af_operator.observed import Settled

NAME, TITLE = "notebook", "Notebook"
ADVICE = (
    "what kernels held and what was not saved is lost, and a new server starts; files in home stay, and kernels are to "
    "be started again"
)


def is_server(body: Body) -> bool:
    """Return whether a pod is the notebook's."""
    return body["kind"] == POD.kind and label_of(body, names.COMPONENT) == NAME


SERVER = losses.Holder("NotebookLost", "notebook server", names.NOTEBOOK_CONTAINER, ADVICE, is_server, (NAME, TITLE))


def lost(session: Session, observed: Settled) -> Condition | None:
    """Return the condition `NotebookLost`; None where there was never a loss."""
    return losses.lost(session, observed, SERVER, deleted=False)
