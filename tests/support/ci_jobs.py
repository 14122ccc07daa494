"""The example's pipelines as GitHub and GitLab run them: what their steps say, in a shell, with a job's variables."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from local_cluster.settings import CHECKOUT
from tests.support.issuer import EXAMPLES

INSTALL = "pip install "
PROGRAMS = {"af": "-m af_client", "af-ci-token": "-c 'from af_client.ci_token import main; main()'"}
RUN_SECONDS = 240
Signalled = Literal["process", "group"]


@dataclass(frozen=True)
class Pipeline:
    """One job of the example.

    Attributes
    ----------
    script, always
        What it runs, and what it runs whatever came of that.
    signalled
        Who is told that the job is cancelled: the script's first process, or its process group.
    """

    signalled: Signalled
    variables: Mapping[str, str]
    installs: tuple[str, ...]
    script: tuple[str, ...]
    always: tuple[str, ...]


def github() -> Pipeline:
    """Return the job of GitHub's workflow."""
    job = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())["jobs"]["zmumu"]
    steps = [step for step in job["steps"] if "run" in step]
    always = tuple(step["run"] for step in steps if step.get("if") == "always()")
    script = [step["run"] for step in steps if step["run"] not in always]
    return _pipeline("process", job["env"], script, always)


def gitlab() -> Pipeline:
    """Return GitLab's job."""
    job = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())["zmumu"]
    return _pipeline("group", job["variables"], [*job["before_script"], *job["script"]], job["after_script"])


def _pipeline(signalled: Signalled, variables: Mapping[str, str], lines: list[str], always: Sequence[str]) -> Pipeline:
    installs = tuple(line for line in lines if line.startswith(INSTALL))
    script = tuple(line for line in lines if line not in installs)
    return Pipeline(signalled, variables, installs, script, tuple(always))


@dataclass(frozen=True)
class Job:
    """A pipeline in a checkout, as one run of it.

    Attributes
    ----------
    checkout
        Folder with the analysis, and `.ci/kubeconfig.yaml`.
    given
        What the CI system tells the job beside the pipeline's own variables.
    """

    pipeline: Pipeline
    checkout: Path
    given: Mapping[str, str]

    @property
    def session(self) -> str:
        """The name of the job's session."""
        return self._environment()["AF_SESSION"]

    @contextmanager
    def begun(self) -> Iterator[subprocess.Popen[str]]:
        """Give the shell that runs the script."""
        # As both systems do: one file of the lines, which ends with the first that fails.
        file = self.checkout / ".ci" / "script.sh"
        file.write_text("\n".join(self.pipeline.script) + "\n")
        process = subprocess.Popen(
            ["bash", "-e", str(file)],
            cwd=self.checkout,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            with process:
                yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def cancel(self, script: subprocess.Popen[str], sent: signal.Signals) -> None:
        """Send a signal as the CI system does."""
        send = os.kill if self.pipeline.signalled == "process" else os.killpg
        send(script.pid, sent)

    def clean_up(self) -> None:
        """Run what is always run; it must succeed, whether there is anything to clean up or not."""
        for line in self.pipeline.always:
            self.shell(line)

    def shell(self, line: str) -> str:
        """Run one line as a step of the job; it must succeed. Return what it prints."""
        argv, environment = ["bash", "-ec", line], self._environment()
        done = subprocess.run(
            argv,
            cwd=self.checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _environment(self) -> dict[str, str]:
        bin_ = self.checkout / ".ci" / "bin"
        base = {k: v for k, v in os.environ.items() if not k.startswith(("AF_", "ACTIONS_", "GITHUB_", "CI_"))}
        base |= {"PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)} | self.given
        return base | {name: _filled(value, base) for name, value in self.pipeline.variables.items()}


def _filled(value: str, known: Mapping[str, str]) -> str:
    """Return a variable's value with others in it, by GitHub's expressions or GitLab's names."""
    value = re.sub(r"\$\{\{ github\.(\w+) \}\}", lambda found: known[f"GITHUB_{found[1].upper()}"], value)
    return re.sub(r"\$(CI_\w+)", lambda found: known[found[1]], value)


def checked_out(folder: Path, server: str, authority: Path, namespace: str) -> Path:
    """Lay the example's kubeconfig into a checkout, for a cluster that there is; and the programs that it needs."""
    ci = folder / ".ci"
    (ci / "bin").mkdir(parents=True)
    for name, arguments in PROGRAMS.items():
        program = ci / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        program.chmod(0o755)
    config = yaml.safe_load((EXAMPLES / "kubeconfig.yaml").read_text())
    config["clusters"][0]["cluster"]["server"] = server
    config["contexts"][0]["context"]["namespace"] = namespace
    (ci / "kubeconfig.yaml").write_text(yaml.safe_dump(config))
    (ci / "ca.crt").write_bytes(authority.read_bytes())
    return folder
