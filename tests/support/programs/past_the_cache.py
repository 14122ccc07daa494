"""All that a program may do with `root://` beside reading the origin, in a session with a cache.

It leaves what each did in ``done.json``. ORIGIN is what the cache reads from, by that name; OTHER is another server,
and ALIAS the origin by another name.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import uproot
from dask.distributed import Client
from XRootD.client import CopyProcess, File, FileSystem
from XRootD.client.flags import AccessMode, OpenFlags

ORIGIN, OTHER, ALIAS = os.environ["ORIGIN"], os.environ["OTHER"], os.environ["ALIAS"]

KEPT_SECONDS = 4.5
"""After which a file that was written counts as done, and is cached."""


def outcome(answer: tuple[Any, Any]) -> Any:
    """Return what a call gave, or its error in short."""
    status, found = answer
    return found if status.ok else f"error {status.errno}"


def read(url: str) -> str:
    """Return the text of a file, or why it cannot be read."""
    file = File()
    opened = outcome(file.open(url))
    if isinstance(opened, str):
        return opened
    text: bytes = outcome(file.read())
    file.close()
    return text.decode()


def write(url: str, text: str, flags: int = OpenFlags.DELETE) -> str:
    """Write a file, and return what is read of it afterwards, or why it cannot be written."""
    file = File()
    opened = outcome(file.open(url, flags, AccessMode.UR | AccessMode.UW | AccessMode.GR | AccessMode.OR))
    if isinstance(opened, str):
        return opened
    assert file.write(text.encode())[0].ok
    assert file.close()[0].ok
    return read(url)


def trees(url: str) -> list[list[int]]:
    """Write a file of trees, add to it, and return what is in it."""
    with uproot.recreate(url) as file:
        file["t"] = {"x": np.arange(3)}
    with uproot.update(url) as file:
        file["u"] = {"x": np.arange(2)}
    with uproot.open(url) as file:
        return [file[name]["x"].array(library="np").tolist() for name in ("t", "u")]


def by_fsspec(url: str) -> list[Any]:
    """Make a directory, write, list and remove as fsspec has it; its `put` XRootD's file system does not have."""
    files, folder = fsspec.core.url_to_fs(f"{url}/fsspec")
    files.makedirs(folder, exist_ok=True)
    with fsspec.open(f"{url}/fsspec/open.txt", "wb") as file:
        file.write(b"open")
    found = [[Path(each).name for each in files.ls(folder, detail=False)], read(f"{url}/fsspec/open.txt")]
    files.rm(f"{folder}/open.txt")
    return [*found, read(f"{url}/fsspec/open.txt")]


def by_copy(url: str) -> list[Any]:
    """Copy a file up, across and down again."""
    up, down = Path("up.txt").resolve(), Path("down.txt").resolve()
    up.write_text("copied")
    ways = [(str(up), f"{url}/copy.txt"), (f"{url}/copy.txt", f"{url}/copy2.txt"), (f"{url}/copy2.txt", str(down))]
    for source, target in ways:
        process = CopyProcess()
        process.add_job(source, target, force=True)
        process.prepare()
        status, [told] = process.run()
        assert status.ok, (source, target, told["status"].message)
    return [read(f"{url}/copy.txt"), down.read_text()]


def by_paths(server: str) -> list[str]:
    """Make, move, cut, protect and remove, and look after each at what is there."""
    files, url = FileSystem(server), f"{server}//results/paths"
    assert outcome(files.mkdir("/results/paths")) is None
    seen = [write(f"{url}/a", "first")]
    assert files.mv("/results/paths/a", "/results/paths/b")[0].ok
    seen += [read(f"{url}/a"), read(f"{url}/b")]
    assert files.truncate("/results/paths/b", 2)[0].ok
    seen += [read(f"{url}/b")]
    assert files.chmod("/results/paths/b", AccessMode.UR | AccessMode.UW)[0].ok
    assert files.rm("/results/paths/b")[0].ok
    return [*seen, read(f"{url}/b")]


def by_root(url: str) -> list[str]:
    """Write a file with ROOT, and return the names in it; nothing where there is no ROOT."""
    try:
        import ROOT  # noqa: PLC0415 -- one of the two images has it
    except ModuleNotFoundError:
        return []
    file = ROOT.TFile.Open(url, "RECREATE")
    ROOT.TNamed("written", "by ROOT").Write()
    file.Close()
    file = ROOT.TFile.Open(url)
    found = [str(key.GetName()) for key in file.GetListOfKeys()]
    file.Close()
    return found


def seen_by_both(client: Client, server: str) -> list[list[str]]:
    """Write the same file three times, always as long, and return what run and worker read, at once and later."""
    url, seen = f"{server}//results/again.txt", []
    for text in ("one  ", "two  ", "three"):
        seen.append([write(url, text), client.submit(read, url, pure=False).result()])
        time.sleep(KEPT_SECONDS)
        seen[-1] += [read(url), client.submit(read, url, pure=False).result()]
    return seen


def main() -> None:
    """Try everything, and leave what came of it."""
    with Client() as client:
        wrote_there = client.submit(write, f"{ORIGIN}//results/worker.txt", "worker").result()
        steps: dict[str, Callable[[], Any]] = {
            "new": lambda: write(f"{ORIGIN}//results/new/deep/file", "new", OpenFlags.NEW | OpenFlags.MAKEPATH),
            "new again": lambda: write(f"{ORIGIN}//results/new/deep/file", "other", OpenFlags.NEW),
            "update": lambda: write(f"{ORIGIN}//results/new/deep/file", "N", OpenFlags.UPDATE),
            "refused": lambda: [write(f"{ORIGIN}//data/no.txt", "no"), read(f"{ORIGIN}//data/no.txt")],
            "uproot": lambda: trees(f"{ORIGIN}//results/trees.root"),
            "fsspec": lambda: by_fsspec(f"{ORIGIN}//results"),
            "copy": lambda: by_copy(f"{ORIGIN}//results"),
            "paths": lambda: by_paths(ORIGIN),
            "root": lambda: by_root(f"{ORIGIN}//results/by-root.root"),
            "worker": lambda: [wrote_there, read(f"{ORIGIN}//results/worker.txt")],
            "again": lambda: seen_by_both(client, ORIGIN),
            "other": lambda: [
                write(f"{OTHER}//results/{os.environ['AF_SESSION']}", "other"),
                by_copy(f"{OTHER}//results"),
            ],
            "same path": lambda: [
                write(f"{ORIGIN}//results/{os.environ['AF_SESSION']}", "origin"),
                read(f"{OTHER}//results/{os.environ['AF_SESSION']}"),
            ],
            "alias": lambda: [write(f"{ALIAS}//results/alias", "alias"), read(f"{ORIGIN}//results/alias")],
        }
        done = {}
        for name, step in steps.items():
            done[name] = step()
            print(name, done[name], flush=True)
    Path(os.environ["AF_RESULTS"], "done.json").write_text(json.dumps(done))


if __name__ == "__main__":
    main()
