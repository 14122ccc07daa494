"""What the service offers over HTTP, as an OpenAPI document: ``/openapi.json``."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
# Method, path, what it does, what is sent by its content type, the content type of what comes.
Said = tuple[str, str, str, Json, str]

TEXT, JSON, OCTETS = "text/plain", "application/json", "application/octet-stream"
TAR, FORM = "application/x-tar", "multipart/form-data"
NUMBERS: Json = {"type": "array", "items": {"type": "number"}}
ROW: Json = {
    "type": "object",
    "required": ["values", "model"],
    "properties": {
        "keys": {"type": "array", "items": {"type": "string"}, "description": "Names of the values; not looked at."},
        "values": {"oneOf": [NUMBERS, {"type": "array", "items": NUMBERS}], "description": "One row, or several."},
        "model": {"type": "string"},
    },
}
FILE: Json = {"type": "string", "format": "binary"}
IMAGE: Json = {"type": "object", "properties": {"image": FILE, "model": {"type": "string"}}}
UPLOAD: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        **dict.fromkeys(("params", "model", "labels", "sample"), FILE),
    },
}
TENSOR: Json = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "examples": ["FP32", "INT64", "BYTES"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer"}}},
        "data": {"type": "array"},
    },
}
INFER: Json = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": TENSOR},
        "outputs": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
    },
}
ERROR: Json = {"type": "object", "properties": {"error": {"type": "string"}}}

ROUTES: tuple[Said, ...] = (
    ("get", "/models", "TFaaS: params.json of each model; null where there is none", {}, TEXT),
    ("get", "/params/{name}", "TFaaS: a model's params.json", {}, TEXT),
    ("post", "/json", "TFaaS: predict a row, or rows", {JSON: ROW}, TEXT),
    ("post", "/predict/json", "TFaaS: the same", {JSON: ROW}, TEXT),
    ("post", "/proto", "TFaaS: predict a message tfaaspb.Row", {OCTETS: FILE}, OCTETS),
    ("post", "/predict/proto", "TFaaS: the same", {OCTETS: FILE}, OCTETS),
    ("post", "/image", "TFaaS: classify a PNG or a JPEG", {FORM: IMAGE}, TEXT),
    ("post", "/predict/image", "TFaaS: the same", {FORM: IMAGE}, TEXT),
    ("post", "/upload", "TFaaS: take a model, as the next version or as ?version=", {TAR: FILE, FORM: UPLOAD}, TEXT),
    ("delete", "/delete", "TFaaS: delete the model that the form's field model names", {FORM: IMAGE}, TEXT),
    ("delete", "/delete/{name}", "TFaaS: delete a model, or its ?version=", {}, TEXT),
    ("get", "/status", "TFaaS: a sign of life", {}, JSON),
    ("get", "/v2", "Open Inference Protocol: the server and its extensions", {}, JSON),
    ("get", "/v2/health/live", "Open Inference Protocol: does it answer (needs no token)", {}, JSON),
    ("get", "/v2/health/ready", "Open Inference Protocol: do the session's models (needs no token)", {}, JSON),
    ("get", "/v2/models/stats", "Triton: what all models have done", {}, JSON),
    ("post", "/v2/repository/index", "Triton: all models and versions", {}, JSON),
    ("post", "/v2/repository/models/{name}/load", "Triton: load a model", {}, JSON),
    ("post", "/v2/repository/models/{name}/unload", "Triton: let go of it", {}, JSON),
    ("get", "/metrics", "Prometheus", {}, TEXT),
)

# Each of a model, which is its highest version, and of a version.
OF_A_MODEL: tuple[Said, ...] = (
    ("get", "", "Open Inference Protocol: inputs and outputs", {}, JSON),
    ("get", "/ready", "Open Inference Protocol: does it answer", {}, JSON),
    ("get", "/config", "Triton: its configuration", {}, JSON),
    ("get", "/stats", "Triton: what it has done", {}, JSON),
    (
        "post",
        "/infer",
        "Open Inference Protocol: predict, in JSON or with binary tensors",
        {JSON: INFER, OCTETS: FILE},
        JSON,
    ),
)


def document(base: str) -> Json:
    """Return the document, for a service whose routes begin with ``base``."""
    paths: Json = {}
    versions = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    of_models = [(said[0], stem + said[1], *said[2:]) for said in OF_A_MODEL for stem in versions]
    for method, path, does, sent, comes in [*ROUTES, *of_models]:
        paths.setdefault(path, {})[method] = _operation(path, does, sent, comes)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Models of an analysis session", "version": "2"},
        "servers": [{"url": base or "/"}],
        "security": [{"bearer": []}, {"password": []}],
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic", "description": "Any user; the token is the password."},
            }
        },
        "paths": paths,
    }


def _operation(path: str, does: str, sent: Json, comes: str) -> Json:
    said: Json = {
        "summary": does,
        "responses": {
            "200": {"description": "It is done.", "content": {comes: {}}},
            "default": {"description": "It is not, and why.", "content": {JSON: {"schema": ERROR}}},
        },
    }
    if names := [part[1:-1] for part in path.split("/") if part.startswith("{")]:
        text = {"type": "string"}
        said["parameters"] = [{"name": name, "in": "path", "required": True, "schema": text} for name in names]
    if sent:
        said["requestBody"] = {"content": {kind: {"schema": schema} for kind, schema in sent.items()}}
    if path.startswith("/v2/health/"):
        said["security"] = []
    return said
