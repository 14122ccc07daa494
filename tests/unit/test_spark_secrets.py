"""Who gets which secret of a session's Spark, and that what runs keeps the ones that it was begun with."""

from __future__ import annotations

import base64
import json

import jwt

from af_operator.components import spark
from af_operator.model import DEPLOYMENT, Body, Keep, Manifest, Session
from af_operator.observed import Settled
from tests.support.objects import ours
from tests.support.spark_objects import container, decoded, facility, named, objects, terms, with_spark, worker_pod


def test_secrets_stay_while_the_session_runs() -> None:
    asked = with_spark()
    first = named(objects(asked), "Secret", "zmumu-spark")
    values = decoded(first)
    assert len({values["token"], values["rpc-secret"], values["page-key"]}) == 3
    assert f"spark.authenticate.secret {values['rpc-secret']}\n" in values["spark-defaults.conf"]
    assert values["token"] not in values["spark-defaults.conf"]
    again = spark.desired(asked, facility(), Settled(children=(ours(first),), nonce="m" * 64), terms(asked))
    assert named(list(again), "Secret", "zmumu-spark")["data"] == first["data"]
    somebody = {**first, "metadata": {**first["metadata"], "uid": "x"}}
    anew = spark.desired(asked, facility(), Settled(children=(somebody,), nonce="m" * 64), terms(asked))
    of_another = decoded(named(list(anew), "Secret", "zmumu-spark"))
    assert all(of_another[key] != values[key] for key in ("token", "rpc-secret", "page-key"))


def test_the_token_is_one_that_the_key_of_the_pages_has_signed() -> None:
    values = decoded(named(objects(with_spark()), "Secret", "zmumu-spark"))
    key = base64.urlsafe_b64decode(values["page-key"])
    assert jwt.decode(values["token"], key, ["HS384"]) == {}, "and it has no end of its own"
    lines = values["spark-defaults.conf"].splitlines()
    assert f"spark.org.apache.spark.ui.JWSFilter.param.secretKey {values['page-key']}" in lines
    assert "spark.ui.filters org.apache.spark.ui.JWSFilter" in lines
    assert "spark.master.rest.enabled false" in lines, "by default it takes programs from everybody"


def begun_before(asked: Session) -> Body:
    """Return the Secret as a version made it whose pages asked for nothing."""
    made = named(objects(asked), "Secret", "zmumu-spark")
    kept = {key: made["data"][key] for key in ("token", "rpc-secret")}
    return ours({**made, "data": kept})


def test_a_spark_that_was_begun_without_tokens_ends_so() -> None:
    """What runs would not understand workers and drivers that start with another configuration, nor could ask them."""
    asked = with_spark()
    before, there = begun_before(asked), ours(named(objects(asked), "Deployment", "zmumu-spark"))
    container(there, "agent")["env"].clear()
    items = objects(asked, before, there)
    assert Keep(DEPLOYMENT.ref("zmumu-spark")) in items
    made = named(items, "Secret", "zmumu-spark")
    values = decoded(made)
    assert "page-key" not in values
    assert not [line for line in values["spark-defaults.conf"].splitlines() if "JWSFilter" in line or "cipher" in line]
    assert (values["token"], values["rpc-secret"]) == tuple(decoded(before)[key] for key in ("token", "rpc-secret"))
    assert named(objects(asked, ours(made), there), "Secret", "zmumu-spark")["data"] == made["data"], "and so it stays"


def test_one_of_these_whose_server_is_made_anew_starts_without_a_key() -> None:
    asked = with_spark()
    agent = container(named(objects(asked, begun_before(asked)), "Deployment", "zmumu-spark"), "agent")
    [key] = [e["valueFrom"]["secretKeyRef"] for e in agent["env"] if e["name"] == "AF_SPARK_PAGE_KEY"]
    assert key == {"name": "zmumu-spark", "key": "page-key", "optional": True}


def test_the_agent_is_asked_with_the_token_that_it_was_given() -> None:
    asked = with_spark()
    secret = ours(named(objects(asked), "Secret", "zmumu-spark"))
    seen = Settled(children=(secret, worker_pod(asked, "0000000001", ready=True)))
    question = spark.question(asked, facility(), seen, terms(asked))
    assert question
    assert question.token == decoded(secret)["token"]
    assert question.token not in repr(question)
    agent = container(named(objects(asked), "Deployment", "zmumu-spark"), "agent")
    [given] = [e["valueFrom"]["secretKeyRef"] for e in agent["env"] if e["name"] == "AF_SPARK_TOKEN"]
    assert given == {"name": "zmumu-spark", "key": "token"}


def test_no_secret_is_in_what_others_may_read() -> None:
    """Command lines, variables as they are written, ConfigMaps, status: all but the Secret itself."""
    asked = with_spark()
    items = objects(asked)
    secrets = decoded(named(items, "Secret", "zmumu-spark"))
    others = json.dumps([i.body for i in items if isinstance(i, Manifest) and i.ref.kind != "Secret"])
    assert not [key for key in ("token", "rpc-secret", "page-key") if secrets[key] in others]
