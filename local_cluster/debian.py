"""A Debian root file system, made of the machine's own package sources where no image can be pulled."""

import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from local_cluster.errors import ClusterError
from local_cluster.progress import Progress

APT = Path("/etc/apt")
SUITE = "bookworm"
# Of Debian's own suites and sections: other vendors' repositories stay out of the images.
SUITES = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
SECTION = "main"
# What the public slim image leaves out, too.
LEFT_OUT = ("doc", "info", "locale", "man")
PACKAGES = ("ca-certificates", "python3", "python3-venv", "tini")
COMMAND = (
    "mmdebstrap",
    "--variant=minbase",
    *(f"--dpkgopt=path-exclude=/usr/share/{directory}/*" for directory in LEFT_OUT),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    f"--include={','.join(PACKAGES)}",
    SUITE,
)


def build(progress: Progress, archive: Path, log: Path) -> None:
    """Write the root file system as a tar archive."""
    lines = sources()
    if not lines:
        raise ClusterError(f"No package source for Debian {SUITE} ({SECTION}) in {APT}/sources.list*: add one.")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".list") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        what = f"making a Debian {SUITE} (about 1 min, once)"
        progress.run(what, [*COMMAND, str(archive), file.name], log)


def sources(apt: Path = APT) -> list[str]:
    """Return the machine's sources of this Debian release, as lines of a sources.list."""
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    lines = [line for file in lists if file.exists() for line in file.read_text().splitlines()]
    for file in sorted((apt / "sources.list.d").glob("*.sources")):
        lines += _one_line_each(file.read_text())
    return sorted({line for found in lines if (line := _of_debian(found))})


def _of_debian(line: str) -> str | None:
    """Return a sources.list line cut to the main section, None if it is not of this Debian release."""
    match = re.fullmatch(r"deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)", line.strip())
    if match is None or match[3] not in SUITES or SECTION not in match[4].split():
        return None
    return f"deb {match[1] or ''}{match[2]} {match[3]} {SECTION}"


def _one_line_each(deb822: str) -> Iterator[str]:
    """Yield the stanzas of a .sources file in the older form."""
    for stanza in re.split(r"\n\s*\n", deb822):
        fields = _fields(line for line in stanza.splitlines() if not line.startswith("#"))
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        key = fields.get("signed-by", "")
        # A key given in line, over several lines, has no place in the older form.
        option = f"[signed-by={key}] " if key.startswith("/") else ""
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield f"deb {option}{uri} {suite} {fields.get('components', '')}"


def _fields(lines: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[:1].isspace():
            found[name] = f"{found.get(name, '')} {line.strip()}"
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            found[name] = value.strip()
    return found
