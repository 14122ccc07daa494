"""The models that a session is to serve: their part of the options, and of the session's spec. Pure.

In the options::

    {"inference": {"models": ["topjet"], "upload": True, "size": "small", "replicas": 2}}

Fields of the form and of links: ``model.<name>`` and ``model-upload``, which are ``yes`` or left out, ``model-size``
and ``model-replicas``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from af_client.hub.choices import BadOption, count, known, listed, one_of, shown
from af_client.hub.offers import Offer

KEYS = frozenset({"models", "upload", "size", "replicas"})
MODEL = "model"
"""Field of one model, before its name."""
FIELDS = ("model-upload", "model-size", "model-replicas")
YES = "yes"
MAX_MODELS = 32


def put(options: dict[str, Any], name: str, value: str) -> bool:
    """Put the value of a field into the options, if it is one of these; return whether it is.

    Raises
    ------
    BadOption
        It is one, and the value means nothing.
    """
    kind, _, model = name.partition(".")
    if name not in FIELDS and (kind != MODEL or not model):
        return False
    chosen = options.setdefault("inference", {})
    if name == "model-size":
        chosen["size"] = value
    elif name == "model-replicas":
        if not (value.isascii() and value.isdigit() and len(value) < 7):
            raise BadOption(f"{name}: {shown(value)} is not a number: write 1, 2, ...")
        chosen["replicas"] = int(value)
    elif value != YES:
        raise BadOption(f"{shown(name)}: {shown(value)} means nothing: write {YES}, or leave it out")
    elif model:
        chosen.setdefault("models", []).append(model)
    else:
        chosen["upload"] = True
    return True


def section(chosen: Any, offer: Offer) -> dict[str, Any] | None:
    """Return ``spec.inference``, None where no models are chosen: a size alone, which the form says, asks for nothing.

    Raises
    ------
    BadOption
        Something is not offered, or over a limit.
    """
    if not chosen:
        return None
    known("inference", chosen, KEYS)
    upload = chosen.get("upload", False)
    if not isinstance(upload, bool):
        raise BadOption(f"inference.upload: {shown(upload)} is neither true nor false")
    models = _models(chosen.get("models") or [], offer)
    if not models and not upload:
        return None
    if upload and not (offer.serving and offer.serving.upload):
        raise BadOption(f"inference.upload: profile {offer.profile!r} takes no models of one's own: leave it out")
    found: dict[str, Any] = {"models": models} if models else {}
    found |= {"upload": True} if upload else {}
    if (size := chosen.get("size")) is not None:
        found["size"] = one_of("inference.size", size, [each.name for each in offer.sizes])
    replicas = count("inference.replicas", chosen.get("replicas", 1), offer.workers)
    if not replicas:
        raise BadOption(f"inference.replicas: 0: allowed: 1 to {offer.workers}")
    return found | {"replicas": replicas}


def _models(chosen: Any, offer: Offer) -> list[dict[str, str]]:
    if not isinstance(chosen, list):
        raise BadOption(f"inference.models: {shown(chosen)} is not a list of names")
    offered = [model.name for model in offer.serving.models] if offer.serving else []
    for name in chosen:
        one_of("inference.models", name, offered)
    if len(chosen) > MAX_MODELS:
        raise BadOption(f"inference.models: {len(chosen)} is over the limit: allowed: at most {MAX_MODELS}")
    # In the catalogue's order, whatever order they were chosen in.
    return [{"name": name} for name in offered if name in chosen]


def line(section: Mapping[str, Any] | None) -> str:
    """Return what a session serves, for people; empty where it serves nothing."""
    served = [model["name"] for model in (section or {}).get("models") or []]
    own = ["your own"] if (section or {}).get("upload") else []
    return listed(served + own) if served or own else ""


def choice(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the form shows as chosen, whatever was stored: what does not fit counts as not chosen."""
    chosen = options.get("inference")
    chosen = chosen if isinstance(chosen, Mapping) else {}
    models = chosen.get("models")
    return {
        "models": models if isinstance(models, list) else [],
        "upload": chosen.get("upload") is True,
        "size": chosen.get("size"),
        "replicas": chosen.get("replicas", 1),
    }
