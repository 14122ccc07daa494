"""What a session asks of its model service, and which models of the catalogue that comes to. Pure.

Once a service has served, the versions of its models stay what they are: a new one in the catalogue changes no number
under an analysis that runs. They stand in the session's status, which nobody but the operator can write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from af_operator.api.inference import CatalogueModel, Inference, ModelStore, ProfileInference
from af_operator.api.pools import Pool, Workers
from af_operator.components._shared import choices, placement, pools
from af_operator.errors import InvalidSession
from af_operator.model import Profile, Session

NAME = "inference"
TITLE = "Inference"
REPLICAS = "replicas"
"""What the replicas are called as a pool: af scale NAME inference N."""
LOST, RETURNED = "InferenceLost", "Returned"


def spec(session: Session) -> Inference:
    """Return what the session asks of its model service."""
    if session.spec.inference is None:
        raise TypeError("this session has no inference")
    return session.spec.inference


def pool(session: Session) -> Pool:
    """Return the replicas as a pool of workers; its node pool is empty where the session names none."""
    asked = spec(session)
    return Pool.model_construct(
        name=REPLICAS,
        node_pool=asked.node_pool or "",
        size=asked.size,
        workers=Workers(min=asked.replicas, max=asked.replicas),
        gpus_per_worker=asked.gpus_per_replica,
    )


def check(session: Session, profile: Profile) -> None:
    """Raise ``InvalidSession`` when the profile has not what the session asks for."""
    asked, offered = spec(session), facility(profile)
    choices.size(profile, asked.size)
    if asked.node_pool is not None:
        pools.check("inference", pool(session), profile, "gpusPerReplica")
    else:
        placement.check("inference.nodePool", None, profile)
    if asked.gpus_per_replica and offered.gpu_image is None:
        raise InvalidSession(
            "NoGPUs", f"profile {profile.name!r} has no models on GPUs (inference.gpuImage): set gpusPerReplica: 0"
        )
    if asked.upload and not offered.upload:
        raise InvalidSession(
            "NoUpload", f"profile {profile.name!r} lets sessions upload no models: set inference.upload: false"
        )
    _check_cvmfs(models(session, profile))


def models(session: Session, profile: Profile) -> list[CatalogueModel]:
    """Return the models of the catalogue that are served; where no version is named the one that was begun with.

    Raises
    ------
    InvalidSession
        The catalogue has one of them not, or not any more.
    """
    begun = served(session)
    return [_chosen(c.name, c.version or begun.get(c.name), profile) for c in spec(session).models]


def served(session: Session) -> Mapping[str, str]:
    """Return the version of each model that was served since the service began, as the status says."""
    versions: Mapping[str, str] = session.status.get("components", {}).get(NAME, {}).get("models", {})
    return versions


def gpus(session: Session, profile: Profile) -> dict[str, int]:
    """Return how many of each extended resource a replica has."""
    asked = spec(session)
    if not asked.gpus_per_replica or asked.node_pool is None:
        return {}
    resource = choices.node_pool(profile, asked.node_pool).gpu_resource
    return {resource: asked.gpus_per_replica} if resource else {}


def store(session: Session, profile: Profile) -> ModelStore | None:
    """Return the volume for the session's own models; None where it uploads none."""
    return facility(profile).store if spec(session).upload else None


def facility(profile: Profile) -> ProfileInference:
    """Return what the profile says of model services."""
    if profile.spec.inference is None:
        raise InvalidSession(
            "NoInference", f"profile {profile.name!r} has no models (inference): remove inference from the session"
        )
    return profile.spec.inference


def was_lost(session: Session) -> str | None:
    """Return what the status says of a loss: the reason of the condition, or None where there was none."""
    lost = session.told(LOST)
    return str(lost["reason"]) if lost else None


def was_up(session: Session) -> bool:
    """Return whether the service has served since it was begun, as the status says."""
    told = (session.told(condition) for condition in (f"{TITLE}Ready", LOST))
    return any(each is not None and each["status"] == "True" for each in told) or was_lost(session) == RETURNED


def _chosen(name: str, version: str | None, profile: Profile) -> CatalogueModel:
    catalogue = facility(profile).models
    versions = {int(m.version): m for m in catalogue if m.name == name}
    if not versions:
        there = ", ".join(sorted({m.name for m in catalogue})) or "none"
        raise InvalidSession(
            "UnknownModel", f"model {name!r} is not in profile {profile.name!r}: choose one of: {there}"
        )
    number = int(version) if version else max(versions)
    if number not in versions:
        there, wanted = ", ".join(map(str, sorted(versions))), f"model {name!r} has no version {version}"
        raise InvalidSession("UnknownModel", f"{wanted} in profile {profile.name!r}: choose one of: {there}")
    return versions[number]


def _check_cvmfs(models: Sequence[CatalogueModel]) -> None:
    claims = {m.source.cvmfs.claim_name for m in models if m.source and m.source.cvmfs}
    if len(claims) > 1:
        raise InvalidSession(
            "SeveralClaims",
            f"models come from {' and '.join(sorted(claims))}, of which a server can have one at /cvmfs: leave some "
            "out, or ask the facility's admin for one claim of all of CVMFS",
        )
