"""Images of one static program each, in the format of ``docker save``, made without any builder."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# The kernel's name of an architecture -> the images' name.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class ProgramImage:
    """What is in the image: one program at ``/<name>``, and how it is called."""

    reference: str
    program: Path
    entrypoint: Sequence[str]


def write(image: ProgramImage, target: Path) -> None:
    """Write the image as an archive that ``ctr images import`` reads."""
    layer = _tar({image.entrypoint[0].lstrip("/"): image.program.read_bytes()}, mode=0o755)
    config = json.dumps(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": list(image.entrypoint)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [image.reference], "Layers": ["layer.tar"]}]).encode()
    target.write_bytes(_tar({name: config, "layer.tar": layer, "manifest.json": manifest}, mode=0o644))


def _tar(files: Mapping[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
