"""``/image``: a picture in, classes out."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import orjson
from PIL import Image

from af_inference.asgi import App, Receive, Scope, Send, as_problem, reply, reply_problem
from af_inference.errors import Invalid, TooLarge
from af_inference.server import Server
from af_inference.settings import MIB
from af_inference.tensors import DTYPES, Array
from af_inference.tfaas import fields, rows
from af_inference.tfaas.model import Loaded, Models
from af_inference.tfaas.predict import PLAIN

FORMATS = ("PNG", "JPEG")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
BODY = 16 * MIB
PIXELS = 4_000_000
BEST = 5
# It would only warn, or refuse in words of its own: the size is checked here before a pixel is read.
Image.MAX_IMAGE_PIXELS = None


def app(server: Server, models: Models) -> App:
    """Return the app that answers pictures."""

    async def image(scope: Scope, receive: Receive, send: Send) -> None:
        began, served, status = time.perf_counter(), None, 200
        try:
            form = await fields.read(scope, receive, BODY)
            model = await models.get(_model(scope, form))
            served = model.served
            await reply(send, await _answer(model, form), PLAIN)
        except Exception as error:  # noqa: BLE001  (whatever it is, the client is told)
            problem = as_problem(error)
            status = problem.status
            await reply_problem(send, problem)
        server.metrics.observe("tfaas", served, status, time.perf_counter() - began)

    return image


def _model(scope: Scope, form: fields.Form) -> str:
    asked = parse_qs(scope["query_string"].decode("latin-1")).get("model", [""])
    return form.values.get("model") or asked[0]


async def _answer(model: Loaded, form: fields.Form) -> bytes:
    if "image" not in form.files:
        raise Invalid("the form must have a file image, and a field model: curl -F image=@hits.png -F model=…")
    name, content = form.files["image"]
    single = model.single
    picture = await asyncio.to_thread(pixels, content, single.channels)
    output = await model.answer(picture.astype(DTYPES[single.input.datatype])[None])
    if not single.labels:
        return rows.to_json(output, one=True)
    return orjson.dumps({"filename": name, "labels": best(rows.finite(output)[0].ravel(), single.labels)}) + b"\n"


def pixels(content: bytes, channels: int) -> Array:
    """Return a picture's pixels.

    Parameters
    ----------
    content
        A PNG or a JPEG.
    channels
        1 for grey, 3 for colours, 4 for colours and opacity.

    Returns
    -------
    ndarray
        uint8, of shape (height, width, channels), from 0 to 255: neither scaled nor cut.

    Raises
    ------
    Invalid, TooLarge
        It is no such picture, or too large a one; or nothing says how many channels the model takes.
    """
    if channels not in MODES:
        raise Invalid("the model's params.json must say img_channels: 1 for grey pictures, 3 for colours")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            if picture.width * picture.height > PIXELS:
                raise TooLarge(f"a picture may have {PIXELS} pixels")
            found = np.asarray(picture.convert(MODES[channels]))
    except (OSError, SyntaxError, ValueError, EOFError):
        raise Invalid("image must be a PNG or a JPEG, and a whole one") from None
    return found.reshape(picture.height, picture.width, channels)


def best(probabilities: Array, labels: list[str]) -> list[dict[str, Any]]:
    """Return the labels of the largest probabilities, the largest first."""
    order = np.argsort(-probabilities, kind="stable")
    named = [int(each) for each in order if each < len(labels)][: min(BEST, len(labels))]
    return [{"label": labels[each], "probability": np.float32(probabilities[each]).item()} for each in named]
