"""``af-notebook``: the JupyterLab of a session, with or without JupyterHub.

Everything comes from the environment that the operator and the Hub's spawner give. Two ways lead in: the login of
the Hub, and the session's own token (``JUPYTER_TOKEN``), which works where there is no Hub or where it is away.
"""

import asyncio
import hashlib
import hmac
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.utils import JupyterServerAuthWarning
from jupyterhub._version import __version__ as hub_client_version
from jupyterhub._version import _check_version
from jupyterhub.httpclient import fetch
from jupyterhub.singleuser.extension import (
    JupyterHubIdentityProvider,
    JupyterHubLogoutHandler,
    JupyterHubSingleUser,
    JupyterHubUser,
)
from jupyterlab.commands import get_app_dir
from jupyterlab.labapp import LabApp

from af_client.pod import examples, packages
from af_client.pod.agents import dask_host
from af_client.pod.web_pages import dashboard_page, pages
from af_names import NOTEBOOK_PORT


def main() -> None:
    """Serve JupyterLab until told to end."""
    # Of each such place in an extension it would warn, in a line of the log: they are refused, as `arguments` says.
    warnings.filterwarnings("ignore", category=JupyterServerAuthWarning)
    runtime = Path(tempfile.mkdtemp(prefix="af-notebook-"))
    begin_home(os.environ)
    settings = lab_settings(runtime / "lab", os.environ)
    os.environ.update(environment(runtime, os.environ))
    write_cookie_secret(runtime / "jupyter_cookie_secret", os.environ)
    server = SessionServer if os.environ.get("JUPYTERHUB_API_URL") else SessionLab
    server.launch_instance(argv=arguments(settings, os.environ, sys.argv[1:]))


def base_url(env: Mapping[str, str]) -> str:
    """Return the path that the server is at; the same with and without a Hub."""
    return env.get("JUPYTERHUB_SERVICE_PREFIX") or env.get("AF_BASE_URL") or "/"


def dashboard_path(env: Mapping[str, str]) -> str | None:
    """Return the path under which this server, and its login, shows the session's Dask dashboard."""
    return f"{base_url(env)}{dashboard_page(env)}" if dask_host(env) else None


def environment(runtime: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return what the kernels find beside what the pod has."""
    found = {
        # Not in home: connection files of a pod that is gone mean nothing to the next, nor to another session.
        "JUPYTER_RUNTIME_DIR": str(runtime),
        # Home has a size, and pip would tell of its own versions in each notebook.
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CACHE_DIR": str(runtime / "pip"),
        # What a terminal runs; without it, `sh`.
        "SHELL": env.get("SHELL", "/bin/bash"),
        # Of kernels and terminals. This process began without: packages that break do not keep it from starting.
        **packages.variables(packages.place(env), env.get("PATH", os.defpath)),
    }
    if dashboard := dashboard_path(env):
        found["DASK_DISTRIBUTED__DASHBOARD__LINK"] = f"{dashboard}/status"
    return found


def begin_home(env: Mapping[str, str]) -> None:
    """Lay what a home begins with; one that is full or broken keeps no server from starting."""
    try:
        examples.lay(Path(env.get("HOME") or Path.cwd()))
    except OSError as error:
        print(f"af-notebook: home is not laid out: {error}", file=sys.stderr, flush=True)


def lab_settings(directory: Path, env: Mapping[str, str]) -> Path:
    """Write JupyterLab's settings of this session beside those of the image; return their directory.

    The Dask pane opens with the session's own cluster. The list of clusters that one starts from there is hidden:
    what it starts would live in this pod, on no node pool.
    """
    of_image = Path(get_app_dir()) / "settings"
    if of_image.is_dir():
        shutil.copytree(of_image, directory)
    dask = {"hideClusterManager": True, "defaultURL": dashboard_path(env) or ""}
    overrides = directory / "overrides.d"
    overrides.mkdir(parents=True, exist_ok=True)
    (overrides / "af-session.json").write_text(json.dumps({"dask-labextension:plugin": dask}))
    return directory


def write_cookie_secret(path: Path, env: Mapping[str, str]) -> None:
    """Sign cookies with what only this session has: they outlive the pod, and are worth nothing elsewhere."""
    if token := env.get("JUPYTER_TOKEN"):
        path.touch(mode=0o600)
        path.write_bytes(hashlib.sha256(f"cookie {token}".encode()).digest())


def arguments(settings: Path, env: Mapping[str, str], given: Sequence[str] = ()) -> list[str]:
    """Return the command line of the server: it outranks the configuration files in a user's home.

    What is `given` is taken as it is, and instead of ours.
    """
    home = Path(env.get("HOME") or Path.cwd())
    traits = {
        "ServerApp.ip": "0.0.0.0",  # noqa: S104 (a pod's own addresses)
        "ServerApp.port": urlsplit(env.get("JUPYTERHUB_SERVICE_URL", "")).port or NOTEBOOK_PORT,
        "ServerApp.port_retries": 0,
        "ServerApp.base_url": base_url(env),
        "ServerApp.root_dir": home,
        "ServerApp.allow_remote_access": True,
        # What an extension has forgotten to protect, or a later one adds, is for who is logged in.
        "ServerApp.allow_unauthenticated_access": False,
        "ServerApp.open_browser": False,
        "ServerApp.quit_button": False,
        "LabApp.app_settings_dir": settings,
        # A user's sessions share the home: which notebooks and dashboard were open belongs to one of them.
        "LabApp.workspaces_dir": home / ".jupyter" / "lab" / "workspaces" / env.get("AF_SESSION", ""),
        # Pages of the session's other pods are passed on to by name, with its token: see `web_pages`.
        "ServerProxy.host_allowlist": ["localhost", "127.0.0.1"],
    }
    named = {argument.partition("=")[0] for argument in given}
    return [*(f"--{name}={value}" for name, value in traits.items() if f"--{name}" not in named), *given]


class ShowsPages(ExtensionApp):
    """Shows the web pages of the session's other pods, beside those that a user's own configuration names."""

    @classmethod
    def make_serverapp(cls, **kwargs: Any) -> Any:
        """Return the server, before it reads its configuration."""
        server = super().make_serverapp(**kwargs)
        server.config.ServerProxy.servers.update(pages(os.environ))
        return server


class SessionLab(ShowsPages, LabApp):
    """JupyterLab without a Hub."""

    @classmethod
    def get_extension_package(cls) -> str:
        """Return the package that JupyterLab itself is in."""
        return "jupyterlab"


class SessionLogoutHandler(JupyterHubLogoutHandler):
    """Forgets the login by the session's token too."""

    @allow_unauthenticated
    def get(self) -> None:
        """Clear both logins, and go on to the Hub."""
        self.identity_provider.clear_login_cookie(self)
        super().get()


class SessionIdentityProvider(JupyterHubIdentityProvider):
    """Lets in who has the session's token, and asks the Hub for the rest."""

    logout_handler_class = SessionLogoutHandler

    async def get_user(self, handler: Any) -> JupyterHubUser | None:
        """Return the user of a request, None where nobody has logged in."""
        if not hasattr(handler, "_jupyterhub_user") and self._has_session_token(handler):
            self._patch_xsrf(handler)
            handler._jupyterhub_user = self._owner()
        return await super().get_user(handler)

    def _has_session_token(self, handler: Any) -> bool:
        # The cookie's signature is made with the token: see write_cookie_secret.
        expected, given = os.environ.get("JUPYTER_TOKEN", ""), self.get_token(handler) or ""
        if not expected:
            return False
        if hmac.compare_digest(given.encode(), expected.encode()):
            handler._token_authenticated = True
            if handler.get_query_argument("token", ""):
                self.set_login_cookie(handler, self._owner())
            return True
        # A wrong token is refused, whatever cookie comes with it.
        return not given and handler.get_secure_cookie(self.get_cookie_name(handler)) is not None

    def _owner(self) -> JupyterHubUser:
        scopes = sorted({*self.hub_auth.access_scopes, *self.hub_auth.oauth_scopes})
        return JupyterHubUser({"kind": "user", "name": os.environ["JUPYTERHUB_USER"], "scopes": scopes})


class SessionServer(ShowsPages, JupyterHubSingleUser):
    """The Hub's single-user server, which starts and works without the Hub too."""

    @classmethod
    def get_extension_package(cls) -> str:
        """Return the module that `_jupyter_server_extension_points` is in."""
        return __name__

    def load_config_file(self) -> None:
        """Take the Hub's configuration, with our way in."""
        super().load_config_file()
        self.config.ServerApp.identity_provider_class = SessionIdentityProvider
        self.serverapp.update_config(self.config)

    def initialize(self, args: Any = None) -> None:
        """Let JupyterLab show the Dask dashboard in a frame, which the Hub's default forbids."""
        headers = self.serverapp.web_app.settings.setdefault("headers", {})
        headers["Content-Security-Policy"] = "frame-ancestors 'self'"
        super().initialize(args)

    async def check_hub_version(self) -> None:
        """Look for the Hub beside the work: one that is away neither ends nor delays this server."""
        self._version_check = asyncio.ensure_future(self._compare_versions())

    async def _compare_versions(self) -> None:
        try:
            answer = await fetch(self.hub_auth.api_url, **self.hub_http_client_opts)
        except (aiohttp.ClientError, OSError) as error:
            self.log.warning("The Hub at %s is away: %s. The session's token works.", self.hub_auth.api_url, error)
            return
        _check_version(answer.headers.get("X-JupyterHub-Version"), hub_client_version, self.log)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": __name__, "app": SessionServer}]
