"""The two kinds as pydantic models: the one source of the CRDs (``make generate``) and of parsing."""

from af_operator.api.common import GROUP, VERSION, ApiModel
from af_operator.api.profile import ProfileSpec
from af_operator.api.session import SessionSpec
from af_operator.api.status import ProfileStatus, SessionStatus

API_VERSION = f"{GROUP}/{VERSION}"

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "ApiModel",
    "ProfileSpec",
    "ProfileStatus",
    "SessionSpec",
    "SessionStatus",
]
