"""TFaaS' protocol over HTTP, as its clients speak it: https://github.com/vkuznet/TFaaS."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.routing import Route

from af_inference.asgi import App
from af_inference.server import Server
from af_inference.tfaas import models, pictures, predict, upload
from af_inference.tfaas.model import Models

__all__ = ["hot", "routes"]


def hot(server: Server) -> Mapping[str, App]:
    """Return the routes on bare ASGI, by their path, for POST."""
    known = Models(server.registry)
    apps = {
        "json": predict.json(server, known),
        "proto": predict.proto(server, known),
        "image": pictures.app(server, known),
    }
    stems = ("/", "/predict/")
    return {"/upload": upload.app(server)} | {stem + name: app for name, app in apps.items() for stem in stems}


def routes(server: Server, hot: Mapping[str, App]) -> list[Route]:
    """Return the others; of the hot ones their paths, so that who asks them by another method than POST is told so."""
    return [*models.routes(server), *(Route(path, app, methods=["POST"]) for path, app in hot.items())]
