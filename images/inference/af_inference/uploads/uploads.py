"""One upload, from its first byte to the model that serves."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from af_inference import log, sandbox
from af_inference.asgi import Receive, Scope, header
from af_inference.errors import Forbidden, Full, TooMany, Unprocessable, Unsupported
from af_inference.repository import MODEL, Artifact, check_name
from af_inference.runtime import Runtime
from af_inference.served import Served
from af_inference.server import Server
from af_inference.uploads import body, room
from af_inference.uploads.child import Children, Program

# The environment with TensorFlow, in the image that has one.
CONVERTER = Path("/opt/convert/bin/python")
ENCODINGS = (b"", b"identity", b"gzip", b"base64")
# What is kept beside the model, and the most bytes of each.
KEPT = {"params.json": 65536, "labels.txt": 1 << 20, "config.pbtxt": 65536}


@dataclass(frozen=True)
class Sent:
    """What a request says of its body.

    Attributes
    ----------
    version
        Which the model is to be; None for the next.
    """

    content_type: str
    encoding: str
    version: str | None

    @classmethod
    def of(cls, scope: Scope, version: str | None) -> Sent:
        """Return it.

        Raises
        ------
        Unsupported
            The body is encoded in a way that is not taken.
        """
        encoding = (header(scope, b"content-encoding") or b"").strip().lower()
        if encoding not in ENCODINGS:
            raise Unsupported("Content-Encoding must be gzip for a .tar.gz, base64 for a form's part model, or none")
        return cls((header(scope, b"content-type") or b"").decode("latin-1"), encoding.decode(), version)


class Uploads:
    """Takes models into the store: several at a time are received, and one is converted.

    Attributes
    ----------
    converter
        The interpreter that converts TensorFlow's formats; where it is missing, only ONNX is taken.
    """

    def __init__(self, server: Server, converter: Path = CONVERTER) -> None:
        self._server, self._limits, self.converter = server, server.settings.limits, converter
        self._children = Children()
        self._converting = asyncio.Lock()
        self._taken = 0
        if server.settings.upload:
            server.repository.sweep()

    async def take(self, scope: Scope, receive: Receive, version: str | None = None) -> Artifact:
        """Take an upload, and return what it has become once it is served.

        Raises
        ------
        Problem
            Whatever is wrong with it; then nothing of it is left.
        """
        self._check_allowed()
        sent = Sent.of(scope, version)
        self._taken += 1
        try:
            async with self._staged() as folder:
                (folder / "work").mkdir()
                await body.save(scope, receive, folder / "work" / "body", self._limits.upload)
                return await self._next(folder, sent)
        finally:
            self._taken -= 1

    def _check_allowed(self) -> None:
        if not self._server.settings.upload:
            raise Forbidden(
                "this session takes no uploads: say `upload: true` in its spec, where its profile allows it"
            )
        if missing := sandbox.unavailable():
            raise Forbidden(f"uploads are converted where they can do no harm, which this node cannot: {missing}")
        if self._taken >= self._limits.uploads:
            raise TooMany(f"{self._taken} uploads are on their way: try again when they are done")

    @asynccontextmanager
    async def _staged(self) -> AsyncIterator[Path]:
        stage = self._server.repository.stage()
        with _no_space():
            folder = await asyncio.to_thread(stage.__enter__)
            try:
                yield folder
            finally:
                await asyncio.to_thread(stage.__exit__, None, None, None)

    async def _next(self, folder: Path, sent: Sent) -> Artifact:
        async with self._converting:
            try:
                return await asyncio.to_thread(self._store, folder, sent)
            except asyncio.CancelledError:
                self._children.kill()  # the server ends: its thread would wait for the child
                raise

    def _store(self, folder: Path, sent: Sent) -> Artifact:
        """Make a model of a body, and let it serve."""
        arguments = (sent.content_type, sent.encoding, str(self._limits.model))
        found = self._run(_unpacking(), folder, *arguments)
        name = check_name(str(found.get("name", "")))
        self._server.repository.check_new(name, sent.version)
        room.check(self._server.repository, self._limits)
        said = self._run(self._conversion(found.get("format")), folder)
        served = self._try(name, _version(folder))
        artifact = self._server.repository.put(name, sent.version, served)
        self._server.registry.load(name, artifact.version)
        log.info("model uploaded", model=name, version=artifact.version, difference=said.get("difference"))
        return artifact

    def _run(self, program: Program, folder: Path, *arguments: str) -> dict[str, Any]:
        bounds = sandbox.Bounds(room.memory(self._limits), self._limits.load_seconds, self._limits.model)
        answer = self._children.run(program, folder / "work", bounds, arguments)
        return answer if isinstance(answer, dict) else {}

    def _conversion(self, kind: object) -> Program:
        if kind == "onnx":
            return Program(sys.executable, "af_inference.convert", "trying the model")
        if not self.converter.exists():
            raise Unprocessable(
                f"this server takes ONNX, and not the format {kind}: convert it with `af models push`, or ask for"
                " the image inference_convert"
            )
        return Program(str(self.converter), "af_inference.convert", "converting the model")

    def _try(self, name: str, version: Path) -> Path:
        """Load a model as it would be served, before anybody can ask it."""
        artifact = Artifact(name, "0", version)
        Served.tried(Runtime.of(self._server.settings).load(name, "0", artifact.file), self._limits, artifact)
        return version


def _unpacking() -> Program:
    return Program(sys.executable, "af_inference.unpack", "reading the upload")


def _version(folder: Path) -> Path:
    """Bring together what is kept; the child that made it has ended."""
    work, version = folder / "work", folder / "version"
    version.mkdir()
    _keep(work / "model" / MODEL, version)
    for name, most in KEPT.items():
        if os.path.lexists(work / "source" / name):
            _keep(work / "source" / name, version, most)
    return version


def _keep(file: Path, version: Path, most: int | None = None) -> None:
    # The child can make no links; should it find a way, the server follows none.
    if file.is_symlink() or file.parent.is_symlink() or not file.is_file():
        raise Unprocessable(f"the conversion left no file {file.name}")
    if most is not None and file.stat().st_size > most:
        raise Unprocessable(f"{file.name} has more than {most} bytes")
    file.rename(version / file.name)


@contextmanager
def _no_space() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Full("the store's volume is full: delete models that nobody asks any more") from None
        raise
