"""The choices of who starts a server in JupyterHub: the form, what it sends, and the session's spec made of it. Pure.

Options are a plain dict, the same from the form, from a link and from the REST API::

    {"profile": "default", "image": "analysis", "size": "small", "xcache": "Session",
     "pools": {"cpu": {"workers": 4, "minWorkers": 2, "size": "medium"}, "gpu": {"workers": 1, "gpusPerWorker": 1},
               "spark/cpu": {"workers": 2}},
     "inference": {"models": ["topjet"], "upload": True, "size": "small", "replicas": 1}}

A pool begins with `minWorkers`, 1 if left out, and has up to `workers` as its tasks ask for them. It is Dask's, or of
the engine before the ``/``.

Everything may be left out. Fields of the form and of links: ``profile``, ``image``, ``size``, ``xcache``,
``workers.<pool>``, ``min-workers.<pool>`` and ``worker-size.<pool>``; those of models are in `models_form`, and
``start``, which says pools and models in a word, in `presets`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from af_client.hub import models_form, presets
from af_client.hub.choices import BadOption, at_most, count, known, listed, one_of, shown
from af_client.hub.offers import Engine, Offer, Pool
from af_client.model import Session
from af_client.pools import sections
from af_names import plain

Options = Mapping[str, Any]
Fields = Mapping[str, Sequence[str]]
PLACEMENTS = ("Session", "Sidecar")
KEYS = frozenset({"profile", "image", "size", "xcache", "pools", "inference"})
PLAIN = KEYS - {"pools", "inference"}
"""Those that are a field each."""
POOL_KEYS = frozenset({"workers", "minWorkers", "size", "gpusPerWorker"})
POOL_FIELDS = {"workers": "workers", "min-workers": "minWorkers", "worker-size": "size"}
NUMBERS = frozenset({"workers", "minWorkers"})
PREFIX = ":"
"""Between a profile's name and a field that is of this profile only."""
MAX_POOLS = 8
"""Of one engine."""


def from_fields(fields: Fields, offers: Sequence[Offer], default: str) -> dict[str, Any]:
    """Return the options that the fields of a form or of a link stand for.

    Raises
    ------
    BadOption
        An unknown field, a number that is none, or a start that is not offered.
    """
    values = {name: each[-1].strip() for name, each in fields.items() if each and not name.startswith("_")}
    profile = values.get("profile") or default
    chosen = {n: v for n, v in values.items() if PREFIX not in n}
    prefix = f"{profile}{PREFIX}"
    chosen |= {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}
    start = chosen.pop(presets.FIELD, "")
    options: dict[str, Any] = {"profile": profile}
    for name, value in chosen.items():
        if value:
            _put(options, name, value)
    return presets.apply(start, options, _offer(profile, offers)) if start else options


def _put(options: dict[str, Any], name: str, value: str) -> None:
    if models_form.put(options, name, value):
        return
    kind, _, pool = name.partition(".")
    if pool and kind in POOL_FIELDS:
        key = POOL_FIELDS[kind]
        found = _number(name, value) if key in NUMBERS else value
        options.setdefault("pools", {}).setdefault(pool, {})[key] = found
    elif name in PLAIN:
        options[name] = value
    else:
        pools = [f"{field}.<pool>" for field in POOL_FIELDS]
        there = [*sorted(PLAIN), presets.FIELD, *pools, f"{models_form.MODEL}.<name>", *models_form.FIELDS]
        raise BadOption(f"unknown field {shown(name)}: there are {', '.join(there)}")


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 7):
        raise BadOption(f"{shown(name)}: {shown(value)} is not a number: write 0, 1, 2, ...")
    return int(value)


def spec(options: Any, offers: Sequence[Offer], default: str) -> dict[str, Any]:
    """Return the part of a session's spec that the options choose.

    Raises
    ------
    BadOption
        Something is not offered, or over a limit.
    """
    known("options", options, KEYS)
    offer = _offer(options.get("profile", default), offers)
    chosen: dict[str, Any] = {"profile": offer.profile, "mode": "Interactive", "notebook": {}}
    if (image := options.get("image")) is not None:
        chosen["image"] = one_of("image", image, offer.images)
    if (size := options.get("size")) is not None:
        chosen["notebook"]["size"] = one_of("size", size, [s.name for s in offer.sizes])
    for engine, pools in _pools(options.get("pools") or {}, offer):
        chosen[engine.component] = {"pools": pools} | ({"size": engine.server_size} if engine.server_size else {})
        if image is not None and image not in engine.images:
            raise BadOption(
                f"image: {image!r} has no {engine.title}: allowed: {listed(engine.images)}, or no pools of it"
            )
    if cache := _xcache(options.get("xcache"), offer):
        chosen["xcache"] = cache
    if models := models_form.section(options.get("inference"), offer):
        chosen["inference"] = models
        workers = sum(_workers(pools) for pools in sections(chosen).values())
        at_most("inference: replicas and workers together", workers + models["replicas"], offer.workers)
    return chosen


def _offer(profile: Any, offers: Sequence[Offer]) -> Offer:
    if not offers:
        raise BadOption(
            "the facility offers you no profile: ask its admin to apply an AnalysisProfile, or to let you use one"
        )
    name = one_of("profile", profile, [offer.profile for offer in offers])
    return next(offer for offer in offers if offer.profile == name)


def _pools(chosen: Any, offer: Offer) -> list[tuple[Engine, list[dict[str, Any]]]]:
    known("pools", chosen, frozenset(e.choice(pool) for e in offer.engines for pool in e.pools))
    found = [(engine, _pools_of(engine, chosen, offer)) for engine in offer.engines]
    everything = [pool for _, pools in found for pool in pools]
    # The same nodes, whoever computes on them.
    for node_pool, most in {pool.name: pool.most for e in offer.engines for pool in e.pools}.items():
        there = [pool for pool in everything if pool["nodePool"] == node_pool]
        at_most(f"pools: workers on {node_pool}", _workers(there), most)
    gpus = sum(pool["workers"]["max"] * pool.get("gpusPerWorker", 0) for pool in everything)
    at_most("pools: workers over all pools", _workers(everything), offer.workers)
    at_most("pools: GPUs over all pools", gpus, offer.gpus)
    for _, pools in found:
        at_most("pools: number of pools with workers", len(pools), MAX_POOLS)
    return [(engine, pools) for engine, pools in found if pools]


def _workers(pools: Iterable[Mapping[str, Any]]) -> int:
    return sum(pool["workers"]["max"] for pool in pools)


def _pools_of(engine: Engine, chosen: Mapping[str, Any], offer: Offer) -> list[dict[str, Any]]:
    # In the profile's order, whatever order they were chosen in.
    there = ((pool, chosen.get(engine.choice(pool))) for pool in engine.pools)
    pools = [_pool(engine, pool, choice, offer) for pool, choice in there if choice]
    return [pool for pool in pools if pool["workers"]["max"]]


def _pool(engine: Engine, pool: Pool, chosen: Any, offer: Offer) -> dict[str, Any]:
    where = f"pools.{engine.choice(pool)}"
    known(where, chosen, POOL_KEYS)
    workers = count(f"{where}.workers", chosen.get("workers", 0), pool.most)
    # One is enough to begin with. Of a pool without workers the form says a minimum, too.
    least = count(f"{where}.minWorkers", chosen.get("minWorkers", min(workers, 1)), workers or pool.most)
    found: dict[str, Any] = {
        "name": pool.name,
        "nodePool": pool.name,
        "workers": {"min": least, "max": workers},
    }
    if size := _worker_size(f"{where}.size", chosen.get("size"), engine, offer):
        found["size"] = size
    gpus = count(f"{where}.gpusPerWorker", chosen.get("gpusPerWorker", int(pool.gpu)), 16 if pool.gpu else 0)
    if not gpus and not pool.cpu_workers:
        raise BadOption(f"{where}.gpusPerWorker: 0: this pool is for workers with GPUs only: allowed: 1 to 16")
    return found | ({"gpusPerWorker": gpus} if gpus else {})


def _worker_size(field: str, chosen: Any, engine: Engine, offer: Offer) -> str | None:
    allowed = [size.name for size in engine.sizes]
    if chosen is None:
        # The operator takes the profile's own, if this engine can.
        return None if offer.sizes[0].name in allowed else allowed[0]
    if chosen in [size.name for size in offer.sizes] and chosen not in allowed:
        raise BadOption(f"{field}: {chosen!r} is too small for {engine.title}: allowed: {listed(allowed)}")
    return one_of(field, chosen, allowed)


def _xcache(chosen: Any, offer: Offer) -> dict[str, str] | None:
    if chosen is None or chosen is False or chosen in ("", "none"):
        return None
    if not offer.xcache:
        raise BadOption(f"xcache: profile {offer.profile!r} has no cache: leave it out")
    placement = PLACEMENTS[0] if chosen is True else one_of("xcache", chosen, [*PLACEMENTS, "none"])
    return {"placement": placement} | ({"size": offer.cache_size} if offer.cache_size else {})


def render(offers: Sequence[Offer], default: str, chosen: Options) -> str:
    """Return the form, filled in with `chosen`, whatever that is: what does not fit counts as not chosen."""
    profile = chosen.get("profile")
    names = [offer.profile for offer in offers]
    selected = next((name for name in (profile, default, *names) if name in names), "")
    return _template("options.html").render(
        offers=offers, selected=selected, chosen=chosen, single=len(offers) == 1, prefix=PREFIX
    )


def render_existing(session: Session) -> str:
    """Return what stands in the form's place for a server that exists: its session comes back as it was."""
    body = session.body["spec"]
    pools = ((component, pool) for component, found in sections(body).items() for pool in found)
    lines: list[tuple[str, str]] = [
        ("Profile", body.get("profile", "")),
        ("Image", body.get("image", "")),
        ("Notebook", (body.get("notebook") or {}).get("size", "")),
        *(
            (f"{component.capitalize()} workers on {p['nodePool']}", f"at most {p['workers']['max']}")
            for component, p in pools
        ),
        ("Models", models_form.line(body.get("inference"))),
        ("Data cache", (body.get("xcache") or {}).get("placement", "")),
    ]
    shown = [(term, value or "default") for term, value in lines if value or term in ("Image", "Notebook")]
    return _template("existing.html").render(session=session, lines=shown)


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        finalize=_text,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.globals["pool_choice"] = _pool_choice
    environment.globals["models_choice"] = models_form.choice
    environment.globals["presets_of"] = presets.of
    environment.globals["preset_matching"] = presets.matching
    return environment.get_template(name)


def _text(value: Any) -> Any:
    """Return what a page shows of a value: of a profile's texts, and what others have named, text alone."""
    return plain.line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _pool_choice(chosen: Options, pool: str) -> Options:
    pools = chosen.get("pools")
    found = pools.get(pool) if isinstance(pools, Mapping) else None
    return found if isinstance(found, Mapping) else {}
