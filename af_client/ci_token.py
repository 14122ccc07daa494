"""``af-ci-token``: who a CI job is, by the token that its CI system signs for it, as a plug-in of a kubeconfig.

``KUBERNETES_EXEC_INFO`` and what is printed are those of ``client.authentication.k8s.io/v1``, so `kubectl` and every
other client take it as `af` does. The token is on stdout and nowhere else.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

GIVEN = "AF_CI_TOKEN"
"""Variable with the token of a system that gives it to the job beforehand, such as GitLab: `id_tokens` names it."""
GITHUB = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
"""Where GitHub Actions gives as many as are asked for, and what lets the job ask."""
API_VERSION = "client.authentication.k8s.io/v1"
REQUEST_SECONDS = 10.0
PAUSES = (1.0, 3.0)
"""Seconds between tries: a job that has worked for an hour must not fail for one answer that did not come."""


class NoToken(Exception):
    """There is none, and why."""


class _Busy(NoToken):
    """There may be one a little later."""


def token(audience: str, environ: Mapping[str, str]) -> str:
    """Return the job's token for an audience.

    Raises
    ------
    NoToken
        The job has none, or could not get one; says what to do.
    """
    if given := environ.get(GIVEN):
        return given.strip()
    url, secret = (environ.get(name) for name in GITHUB)
    if not url or not secret:
        raise NoToken(
            f"this job has no token of its own. GitLab: id_tokens: {{{GIVEN}: {{aud: {audience}}}}}. "
            "GitHub: permissions: {id-token: write}; a pull request from a fork gets none"
        )
    return _from_github(f"{url}&{urllib.parse.urlencode({'audience': audience})}", secret)


def _from_github(url: str, secret: str) -> str:
    for pause in PAUSES:
        with suppress(_Busy):
            return _ask(url, secret)
        time.sleep(pause)
    return _ask(url, secret)


def _ask(url: str, secret: str) -> str:
    # Its words are ours: a URL or an answer's text may hold what lets others ask.
    request = urllib.request.Request(url, headers={"Authorization": f"bearer {secret}"})  # noqa: S310 - the runner's
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310 - as above
            return str(json.load(answer)["value"])
    except urllib.error.HTTPError as error:
        with error:
            kind = NoToken if error.code < 500 else _Busy
            raise kind(f"GitHub gave no token: HTTP {error.code}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _Busy(f"GitHub gave no token: {type(error).__name__}") from None


def credential(token: str) -> dict[str, Any]:
    """Return what a client takes: the token, and its end, so that it asks again in time.

    Raises
    ------
    NoToken
        It is no JSON web token.
    """
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        end = datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        raise NoToken(f"what the job was given is no JSON web token: is {GIVEN} set by id_tokens?") from None
    status = {"token": token, "expirationTimestamp": end.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return {"apiVersion": API_VERSION, "kind": "ExecCredential", "status": status}


def main() -> None:
    """Print the job's credential, or say what is missing and end with 1."""
    parser = argparse.ArgumentParser("af-ci-token", description="Who this CI job is, for a kubeconfig's `exec`.")
    parser.add_argument("--audience", required=True, help="as the API server's authentication configuration has it")
    try:
        print(json.dumps(credential(token(parser.parse_args().audience, os.environ))))
    except NoToken as error:
        sys.exit(f"af-ci-token: {error}")
