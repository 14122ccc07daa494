"""The two kinds as pydantic models: the one source of the CRDs (``make generate``) and of parsing.

``session`` is what users ask for, ``profile`` what a facility offers, ``status`` what the operator says of either;
``inference`` and ``xcache`` have what both say of models and caches, ``network`` what sessions may connect to;
``common`` has the base of all models, the bounded types, and how a CEL rule is put on a field. A default, a bound and a
rule stand beside the field that they are about; what does not fit is refused by the API server.
"""

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
