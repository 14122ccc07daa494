"""JupyterHub in the chart: what it is given, who may reach it, and its configuration as JupyterHub reads it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
import yaml
from traitlets.config.loader import PyFileConfigLoader

from af_client.hub import database
from af_operator.hub import SCOPES as NEEDED

from .conftest import DEFAULT, EVERYTHING, NAMESPACE, Objects, Render, Values
from .test_objects import named
from .test_rbac import rights

HUB: Values = {**DEFAULT, "image": {**DEFAULT["image"], "hub": "registry.example.org/hub@sha256:4567"}}
ENVIRONMENT = {"AF_OPERATOR_HUB_TOKEN": "the operator's", "AF_SHARED_PASSWORD": "everybody's"}
KEYS = {"proxy-token", "operator-token", "crypt-key", "shared-password"}
SCOPES = ["list:users", "read:servers", "start:servers"]

Template = Callable[[Values], "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.timeout(600)


def with_hub(**hub: Any) -> dict[str, Any]:
    return {**HUB, "hub": {"enabled": True, "existingSecret": "of-the-facility", **hub}}


@pytest.fixture(scope="session")
def hub(render: Render) -> Objects:
    return render(with_hub())


@pytest.fixture
def prepare() -> Mock:
    """Stand for what is done to the database, of which there is none here."""
    return create_autospec(database.prepare)


@pytest.fixture
def configuration(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Mock
) -> Callable[[Values], Any]:
    """Return the Hub's configuration as its loader makes it of what is mounted."""

    def load(values: Values) -> Any:
        objects = render(values)
        for source in (
            named(objects, "ConfigMap", "hub-program")["data"],
            named(objects, "Secret", "hub-values")["stringData"],
        ):
            for name, text in source.items():
                (tmp_path / name).write_text(text)
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(database, "prepare", prepare)
        return PyFileConfigLoader("jupyterhub_config.py", path=str(tmp_path)).load_config()

    return load


# --- objects --------------------------------------------------------------------------------------------------------


def test_no_hub_unless_asked_for(default: Objects) -> None:
    assert [o["metadata"]["name"] for o in default if "hub" in o["metadata"]["name"]] == []


def test_the_image_is_asked_for(template: Template) -> None:
    done = template({**with_hub(), **DEFAULT})
    assert done.returncode != 0
    assert "image.hub is needed" in done.stderr


def test_never_two_on_one_database(hub: Objects) -> None:
    for name in ("hub", "proxy"):
        spec = named(hub, "Deployment", name)["spec"]
        assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_the_database_is_prepared_as_the_values_say_in_the_end(
    configuration: Callable[[Values], Any], prepare: Mock
) -> None:
    configuration(with_hub())
    prepare.assert_called_once_with("sqlite:////srv/jupyterhub/jupyterhub.sqlite", {}, upgrade_server=False)
    prepare.reset_mock()
    own = {"db_url": "postgresql://db/hub", "upgrade_db": True, "db_kwargs": {"pool_size": 3}}
    configuration(with_hub(config={"JupyterHub": own}))
    prepare.assert_called_once_with("postgresql://db/hub", {"pool_size": 3}, upgrade_server=True)


def test_a_database_that_cannot_be_used_ends_the_start_with_its_words(
    configuration: Callable[[Values], Any], prepare: Mock
) -> None:
    prepare.side_effect = database.NotUsable("it is full. Next: empty it")
    with pytest.raises(SystemExit, match="it is full"):
        configuration(with_hub())


def test_an_upgrade_of_the_database_has_half_an_hour(hub: Objects) -> None:
    probe = named(hub, "Deployment", "hub")["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 1800


def test_what_must_last_is_on_the_volume(hub: Objects, configuration: Callable[[Values], Any]) -> None:
    pod = named(hub, "Deployment", "hub")["spec"]["template"]["spec"]
    [volume] = [v["name"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    [mounted] = [m["mountPath"] for m in pod["containers"][0]["volumeMounts"] if m["name"] == volume]
    config = configuration(with_hub()).JupyterHub
    assert config.db_url == f"sqlite:///{mounted}/jupyterhub.sqlite"
    assert Path(config.cookie_secret_file).parent == Path(mounted)


def test_a_claim_of_yours_instead(render: Render) -> None:
    objects = render(with_hub(storage={"existingClaim": "hub-of-old"}))
    pod = named(objects, "Deployment", "hub")["spec"]["template"]["spec"]
    assert [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v] == [
        "hub-of-old"
    ]
    assert "PersistentVolumeClaim" not in {o["kind"] for o in objects}


def test_probes_follow_the_base_url(everything: Objects) -> None:
    [container] = named(everything, "Deployment", "hub")["spec"]["template"]["spec"]["containers"]
    paths = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    assert paths == {"/jupyter/hub/health"}
    [proxy] = named(everything, "Deployment", "proxy")["spec"]["template"]["spec"]["containers"]
    assert "--error-target=http://hub:8081/jupyter/hub/error" in proxy["args"]


def test_a_change_of_the_configuration_starts_a_new_hub(render: Render) -> None:
    def checksum(**values: Any) -> str:
        template = named(render(with_hub(**values)), "Deployment", "hub")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum(resources={"limits": {"memory": "2Gi"}})
    assert checksum() != checksum(config={"Authenticator": {"allow_all": True}})


def test_the_proxy_routes_by_host_for_user_domains(hub: Objects, render: Render) -> None:
    domains = {"JupyterHub": {"subdomain_host": "https://hub.example.org"}}
    for objects, expected in ((hub, False), (render(with_hub(config=domains)), True)):
        [proxy] = named(objects, "Deployment", "proxy")["spec"]["template"]["spec"]["containers"]
        assert ("--host-routing" in proxy["args"]) is expected


def test_the_node_port(hub: Objects, everything: Objects) -> None:
    assert named(hub, "Service", "proxy-public")["spec"]["type"] == "ClusterIP"
    spec = named(everything, "Service", "proxy-public")["spec"]
    assert (spec["type"], spec["ports"][0]["nodePort"]) == ("NodePort", 31080)


# --- secrets --------------------------------------------------------------------------------------------------------


def test_secrets_are_not_made_anew_by_each_rendering(template: Template) -> None:
    done = template({**HUB, "hub": {"enabled": True}})
    assert done.returncode != 0
    assert "hub.existingSecret is needed where helm does not see the cluster" in done.stderr


def test_two_renderings_are_the_same(template: Template) -> None:
    for values in (DEFAULT, EVERYTHING, with_hub()):
        first, second = template(values), template(values)
        assert first.returncode == 0, first.stderr
        assert first.stdout == second.stdout


def test_containers_get_keys_of_the_secret(hub: Objects) -> None:
    for name, expected in (("hub", KEYS), ("proxy", {"proxy-token"})):
        [container] = named(hub, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        asked = [e["valueFrom"]["secretKeyRef"] for e in container["env"]]
        assert {a["key"] for a in asked} == expected


def test_a_secret_of_yours_instead(hub: Objects) -> None:
    assert [o["metadata"]["name"] for o in hub if o["kind"] == "Secret"] == ["hub-values"]
    for deployment in ("hub", "proxy"):
        [container] = named(hub, "Deployment", deployment)["spec"]["template"]["spec"]["containers"]
        assert {e["valueFrom"]["secretKeyRef"]["name"] for e in container["env"]} == {"of-the-facility"}


def test_no_secret_in_what_others_read(everything: Objects) -> None:
    for found in everything:
        if found["kind"] != "Secret":
            assert "hush" not in yaml.safe_dump(found), found["metadata"]["name"]


# --- rights ---------------------------------------------------------------------------------------------------------


def test_the_hub_has_sessions_profiles_and_secrets_by_name_and_nothing_else(hub: Objects) -> None:
    ours = "analysisfacility.io"
    sessions = ("create", "get", "list", "watch", "patch", "delete", "impersonate", "manage")
    found = {
        role["metadata"]["name"]: rights(role["rules"])
        for role in hub
        if role["kind"] in ("Role", "ClusterRole") and "hub" in role["metadata"]["name"]
    }
    assert found == {
        "af-operator-hub-cluster": {(ours, "analysisprofiles", "", verb) for verb in ("get", "list", "watch")},
        "af-operator-hub-sessions": {(ours, "analysissessions", "", verb) for verb in sessions}
        | {(ours, "analysisprofiles", "", "use")}
        | {("", "secrets", "", verb) for verb in ("create", "delete")},
    }


def test_the_hubs_account_has_no_other_binding(hub: Objects) -> None:
    bound = {o["roleRef"]["name"] for o in hub for s in o.get("subjects", []) if s["name"] == "hub"}
    assert bound == {"af-operator-hub-cluster", "af-operator-hub-sessions"}
    assert named(hub, "Deployment", "proxy")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_bound_in_its_namespaces(hub: Objects, everything: Objects, render: Render) -> None:
    def bound(objects: Objects) -> list[tuple[str, str | None]]:
        bindings = [o for o in objects if o.get("roleRef", {}).get("name") == "af-operator-hub-sessions"]
        return [(o["kind"], o["metadata"].get("namespace")) for o in bindings]

    assert bound(hub) == [("ClusterRoleBinding", None)]
    assert bound(everything) == [("RoleBinding", "physics")]
    assert bound(render({**with_hub(), "watchNamespaces": ["a", "b"]})) == [("RoleBinding", "a"), ("RoleBinding", "b")]


# --- network --------------------------------------------------------------------------------------------------------


def test_who_may_connect(hub: Objects) -> None:
    [rule] = named(hub, "NetworkPolicy", "hub")["spec"]["ingress"]
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]
    proxy, operator, notebooks = rule["from"]
    for peer, name in ((proxy, "proxy"), (operator, "af-operator")):
        labels = named(hub, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert peer["podSelector"]["matchLabels"].items() <= labels.items()
        assert "namespaceSelector" not in peer
    assert notebooks["namespaceSelector"] == {}
    assert notebooks["podSelector"]["matchLabels"] == {"analysisfacility.io/component": "notebook"}


def test_the_proxys_api_is_for_the_hub_alone(hub: Objects) -> None:
    public, api = named(hub, "NetworkPolicy", "proxy")["spec"]["ingress"]
    assert public == {"ports": [{"port": "http", "protocol": "TCP"}]}
    [peer] = api["from"]
    labels = named(hub, "Deployment", "hub")["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", ["hub", "proxy"])
def test_policies_and_services_pick_the_pods(name: str, hub: Objects) -> None:
    template = named(hub, "Deployment", name)["spec"]["template"]
    ports = {p["name"] for p in template["spec"]["containers"][0]["ports"]}
    policy = named(hub, "NetworkPolicy", name)["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert {p["port"] for rule in policy["ingress"] for p in rule["ports"]} == ports
    services = [o for o in hub if o["kind"] == "Service" and o["metadata"]["name"].startswith(name)]
    assert services
    for service in services:
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports


def test_policies_can_be_left_out(render: Render) -> None:
    left_out = render(with_hub(networkPolicies=False))
    assert not {"hub", "proxy"} & {o["metadata"]["name"] for o in left_out if o["kind"] == "NetworkPolicy"}
    none = render({**with_hub(), "network": {"policies": False}})
    assert "NetworkPolicy" not in {o["kind"] for o in none}


# --- configuration --------------------------------------------------------------------------------------------------


def test_addresses(configuration: Callable[[Values], Any]) -> None:
    config = configuration(EVERYTHING)
    assert config.JupyterHub.bind_url == "http://0.0.0.0:8000/jupyter/"
    assert config.JupyterHub.hub_connect_url == f"http://hub.{NAMESPACE}.svc:8081"
    assert config.ConfigurableHTTPProxy.api_url == f"http://proxy-api.{NAMESPACE}.svc:8001"


def test_a_restart_of_the_hub_stops_nothing(configuration: Callable[[Values], Any]) -> None:
    config = configuration(with_hub())
    assert config.JupyterHub.cleanup_servers is False
    assert config.ConfigurableHTTPProxy.should_start is False


def test_any_trait_and_any_code(configuration: Callable[[Values], Any]) -> None:
    extra = {"b": "c.JupyterHub.active_server_limit *= 2", "a": "c.JupyterHub.active_server_limit += 1"}
    traits = {"JupyterHub": {"active_server_limit": 4}, "AnalysisSessionSpawner": {"namespace_template": "physics"}}
    config = configuration(with_hub(config=traits, extraConfig=extra))
    assert config.JupyterHub.active_server_limit == 10  # in the order of the names
    assert config.AnalysisSessionSpawner.namespace_template == "physics"
    assert config.JupyterHub.spawner_class == "af_client.spawner.AnalysisSessionSpawner"


def test_profiles_are_limited_where_not_everybody_may_use_all(
    configuration: Callable[[Values], Any], render: Render
) -> None:
    limited = {**with_hub(), "userRoles": {"useProfiles": False}}
    review = ("authorization.k8s.io", "subjectaccessreviews", "", "create")
    use = ("analysisfacility.io", "analysisprofiles", "", "use")
    for values, expected in ((with_hub(), False), (limited, True)):
        assert configuration(values).AnalysisSessionSpawner.limit_profiles is expected
        objects = render(values)
        assert (review in rights(named(objects, "ClusterRole", "af-operator-hub-cluster")["rules"])) is expected
        assert (use in rights(named(objects, "ClusterRole", "analysisfacility-user")["rules"])) is not expected


def test_the_spawner_looks_where_it_may(configuration: Callable[[Values], Any]) -> None:
    assert configuration(with_hub()).AnalysisSessionSpawner.namespaces == []
    assert configuration(EVERYTHING).AnalysisSessionSpawner.namespaces == ["physics"]
    config = configuration({**with_hub(), "watchNamespaces": ["a", "b"]})
    assert config.AnalysisSessionSpawner.namespaces == ["a", "b"]


def test_services_and_roles_are_added_to_the_operators(configuration: Callable[[Values], Any]) -> None:
    mine = {"services": [{"name": "cull", "api_token": "t"}], "load_roles": [{"name": "cull", "services": ["cull"]}]}
    config = configuration(with_hub(config={"JupyterHub": mine}))
    assert [s["name"] for s in config.JupyterHub.services] == ["af-operator", "cull"]
    assert config.JupyterHub.services[0]["api_token"] == ENVIRONMENT["AF_OPERATOR_HUB_TOKEN"]
    operator, cull = config.JupyterHub.load_roles
    assert (operator["services"], operator["scopes"]) == (["af-operator"], SCOPES)
    assert cull == mine["load_roles"][0]


def test_nobody_may_log_in_unless_it_is_said(configuration: Callable[[Values], Any]) -> None:
    config = configuration(with_hub())
    assert "authenticator_class" not in config.JupyterHub
    assert "Authenticator" not in config


def test_the_scopes_are_those_that_the_operator_needs() -> None:
    assert sorted(NEEDED) == SCOPES
