"""JupyterHub's configuration: what this chart needs, then `hub.config`, then `hub.extraConfig` of the values."""

import os
from pathlib import Path

import yaml

from af_client.hub import database

c = get_config()  # noqa: F821 (JupyterHub gives it)
values = yaml.safe_load(Path(__file__).with_name("values.yaml").read_text())
base_url = values["baseUrl"]

# Where things are.
c.JupyterHub.bind_url = f"http://0.0.0.0:8000{base_url}"
c.JupyterHub.hub_bind_url = "http://0.0.0.0:8081"
c.JupyterHub.hub_connect_url = values["hubUrl"]
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = values["proxyUrl"]
c.JupyterHub.db_url = "sqlite:////srv/jupyterhub/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "/srv/jupyterhub/jupyterhub_cookie_secret"  # noqa: S105 (a path)

# Pages that differ from JupyterHub's own lie beside this file.
c.JupyterHub.template_paths = [str(Path(__file__).parent)]

# The Hub may go and come back: servers and the proxy's routes stay.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
# What is wrong with one session is no fault of the Hub; so many in a row are, and a new Hub may be better.
c.Spawner.consecutive_failure_limit = 10
c.JupyterHub.concurrent_spawn_limit = 64
# A moment, in which what is wrong with the options is said; then the page that shows the progress.
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 1}
# A session that is made again has another address under the same name: one that is remembered leads nowhere.
c.JupyterHubHTTPClient.connector_options = {"use_dns_cache": False}

# For demonstrations, where `hub.config` asks for this authenticator: one password for all, but none that is known.
c.SharedPasswordAuthenticator.user_password = os.environ["AF_SHARED_PASSWORD"]

c.JupyterHub.spawner_class = "af_client.spawner.AnalysisSessionSpawner"
c.JupyterHub.allow_named_servers = True
c.AnalysisSessionSpawner.namespaces = values["namespaces"]
c.AnalysisSessionSpawner.limit_profiles = values["limitProfiles"]

config = values["config"]
for class_name, traits in config.items():
    for trait, value in traits.items():
        c[class_name][trait] = value

# Added to what the values name, and never replaced by it: the operator shows sessions in the Hub with these.
c.JupyterHub.services = [
    {"name": "af-operator", "api_token": os.environ["AF_OPERATOR_HUB_TOKEN"]},
    *config.get("JupyterHub", {}).get("services", []),
]
c.JupyterHub.load_roles = [
    {
        "name": "af-operator",
        "description": "Starts the servers of sessions that were applied to Kubernetes",
        "services": ["af-operator"],
        "scopes": ["list:users", "read:servers", "start:servers"],
    },
    *config.get("JupyterHub", {}).get("load_roles", []),
]

for name, code in sorted(values["extraConfig"].items()):
    exec(compile(code, f"hub.extraConfig.{name}", "exec"))  # noqa: S102 (the admin's own code)

# Once all is said of it: a database of an older JupyterHub is upgraded; one that cannot be used ends the start here.
try:
    database.prepare(
        c.JupyterHub.db_url, c.JupyterHub.get("db_kwargs", {}), upgrade_server=c.JupyterHub.get("upgrade_db", False)
    )
except database.NotUsable as error:
    raise SystemExit(str(error)) from error
