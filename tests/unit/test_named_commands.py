"""A command that a message names is one that its reader may run: by the chart's role for users, or as an admin."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "helm/af-operator/templates/users/roles.yaml"
VERBS = (
    "get describe logs delete apply create edit annotate label patch exec port-forward scale rollout cp top auth config"
)
COMMAND = re.compile(rf"kubectl ({VERBS.replace(' ', '|')})\b(?: (?:--?[a-z-]+(?:=\S+)? )*([a-z-]+))?")
NEEDS = {
    "get": ("get", "list"),
    "describe": ("get", "list"),
    "logs": ("get",),
    "delete": ("delete", "get", "list", "watch"),  # it waits for the end
    "apply": ("get", "create", "patch"),
    "create": ("create",),
    "edit": ("get", "patch"),
    "annotate": ("get", "patch"),
}
EVERYBODY = {("auth", "whoami"), ("config", "get-contexts"), ("get", "analysisprofiles")}
"""What needs no right at all; and the catalogue, which every authenticated user reads."""
FOR_ADMINS = {
    "af_operator/__main__.py",  # the operator's log
    "af_operator/uninstall.py",  # a hook of helm
    "af_operator/enforcement.py",  # the condition of a profile, and the operator's log
    "af_operator/api/profile.py",  # who writes a profile
    "af_operator/api/common.py",  # of StorageClasses, which only a profile names
    "af_client/hub/errors.py",  # says whom to ask
}


def user_rights() -> set[tuple[str, str]]:
    """Return (verb, resource) of the role for users."""
    text = re.sub(r"\{\{-?.*?-?\}\}", "", ROLES.read_text())
    role = next(r for r in yaml.safe_load_all(text) if r and r["metadata"]["name"] == "analysisfacility-user")
    return {(verb, resource) for rule in role["rules"] for verb in rule["verbs"] for resource in rule["resources"]}


def messages(path: Path) -> Iterator[str]:
    """Yield the strings of a module that are no docstrings; what is put into them stands as ``x``."""
    tree = ast.parse(path.read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "x" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (told | parts):
            yield node.value


def named(package: str) -> Iterator[tuple[str, str, str]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        for text in messages(path):
            for verb, what in COMMAND.findall(text):
                yield path.relative_to(ROOT).as_posix(), verb, what


def allowed(verb: str, what: str, rights: set[tuple[str, str]]) -> bool:
    if (verb, what) in EVERYBODY:
        return True
    resource = {"analysissession": "analysissessions"}.get(what, what)
    resources = ["pods", "pods/log"] if verb == "logs" else [resource]
    return verb in NEEDS and all((need, each) in rights for need in NEEDS[verb] for each in resources)


@pytest.mark.parametrize("package", ["af_operator", "af_client"])
def test_no_message_names_a_command_that_its_reader_may_not_run(package: str) -> None:
    rights = user_rights()
    found = {
        (path, f"kubectl {verb} {what}")
        for path, verb, what in named(package)
        if path not in FOR_ADMINS and verb != "apply" and not allowed(verb, what, rights)
    }
    assert found == set()


def test_messages_are_found_at_all() -> None:
    assert ("af_operator/api/common.py", "get", "storageclasses") in set(named("af_operator"))


@pytest.mark.parametrize(("verb", "what"), [("describe", "job"), ("logs", "x"), ("get", "pods"), ("describe", "pvc")])
def test_what_the_role_does_not_give_is_none_of_these(verb: str, what: str) -> None:
    assert not allowed(verb, what, user_rights())


def test_what_the_role_gives_is() -> None:
    assert allowed("delete", "analysissession", user_rights())
