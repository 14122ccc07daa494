"""Who may read a notebook's Secrets: its user, and JupyterHub, where the operator knows who that is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from af_operator.components.notebook import secret
from af_operator.observed import Settled
from af_operator.views import HubView
from tests.support.objects import world
from tests.unit.test_notebook import HUB, NONCE, built, home, lab, owned

ACCOUNT = "system:serviceaccount:af-system:hub"
OF_HUB = {"envFrom": [{"secretRef": {"name": "zmumu-notebook"}}, {"secretRef": {"name": "zmumu-hub"}}]}


def running(env: dict[str, Any], hub: HubView | None) -> Settled:
    template = {"spec": {"containers": [{"name": "notebook", "image": "of-old", **env}]}}
    stateful_set = owned("apps/v1", "StatefulSet", spec={"replicas": 1, "template": template})
    return world(stateful_set, shared=(home(),), hub=hub, nonce=NONCE)


def granted(observed: Settled) -> tuple[list[str], list[str]]:
    """Return the Secrets that the notebook's Role names, and who has it."""
    found = built(lab(), observed)
    [secrets] = [r["resourceNames"] for r in found["Role"].body["rules"] if r["resources"] == ["secrets"]]
    return secrets, [subject["name"] for subject in found["RoleBinding"].body["subjects"]]


@pytest.mark.parametrize(
    ("env", "hub", "secrets", "who"),
    [
        (OF_HUB, None, ["zmumu-notebook"], ["alice"]),
        (OF_HUB, HUB, ["zmumu-notebook"], ["alice"]),
        ({}, replace(HUB, account=ACCOUNT), ["zmumu-notebook"], ["alice", ACCOUNT]),
        (OF_HUB, replace(HUB, account=ACCOUNT), ["zmumu-notebook", "zmumu-hub"], ["alice", ACCOUNT]),
        (OF_HUB, replace(HUB, account=ACCOUNT, trouble="it does not answer"), None, ["alice", ACCOUNT]),
    ],
    ids=["no Hub", "one that nobody has named", "not begun with its Secret", "begun with it", "away"],
)
def test_what_a_server_was_begun_with_is_read_by_its_user_and_the_hub(
    env: dict[str, Any], hub: HubView | None, secrets: list[str] | None, who: list[str]
) -> None:
    assert granted(running(env, hub)) == (secrets or ["zmumu-notebook", "zmumu-hub"], who)


def test_a_secret_that_is_not_the_hubs_is_granted_to_nobody() -> None:
    """It has the name, and nothing that says whose it is: the server does not begin with it either."""
    foreign = {"metadata": {"name": "zmumu-hub", "uid": "1-2-3"}}
    read = {secret.of_hub(lab()): foreign}
    observed = world(shared=(home(),), hub=replace(HUB, account=ACCOUNT), read=read, nonce=NONCE)
    assert granted(observed)[0] == ["zmumu-notebook"]
