"""What a run left at the storage: the list from its manifest, and a checked download."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from af_client.errors import ResultsError, ResultsIncomplete, StorageError
from af_client.model import Results, Session
from af_client.storage import MANIFEST, Storage, StoredFile, stored_file
from af_names import plain


@dataclass(frozen=True)
class RemoteResults:
    """Results at a URL; `known` is what the session's status says of them."""

    known: Results

    @classmethod
    def of(cls, session: Session) -> RemoteResults:
        """Return the results of a session.

        Raises
        ------
        ResultsError
            There are none; the message says why.
        """
        if session.run.results:
            return cls(_checked(session, session.run.results))
        name = session.name
        if not session.headless:
            raise ResultsError(f"session {name} has no run, so no results: results come from `mode: Headless`")
        if not session.ended:
            phase = session.phase or "not yet looked at"
            raise ResultsError(f"session {name} has not ended ({phase}): `af status {name}` says what it waits for")
        if session.phase == "Refused":
            raise ResultsError(f"session {name} was refused, so it has no results: `af status {name}` says why")
        raise ResultsError(
            f"session {name} ended without results: either its upload failed (`af status {name}`), "
            "or its profile has no results.url (ask your facility's admin)"
        )

    @property
    def url(self) -> str:
        """Where they are."""
        return self.known.url

    def files(self) -> list[StoredFile]:
        """Return every file; asks the storage only where the status has no room for all of them."""
        known = self.known
        return list(known.files) if len(known.files) == known.count else self._manifest(Storage(known.url))[0]

    def download(self, target: Path) -> list[StoredFile]:
        """Fetch every file into `target`, checked by size and adler32; return what was fetched.

        Raises
        ------
        ResultsIncomplete
            Some are missing, and all others are there: they could not be stored, or not be fetched; or a name leads out
            of `target`, or a file is not what the manifest says.
        ResultsError, StorageError
            There is no manifest, or none that is one.
        """
        storage = Storage(self.url)
        files, missing = self._manifest(storage)
        fetched = []
        for file in files:
            try:
                storage.get(file, local_path(self.url, file, target))
            except (ResultsError, StorageError) as error:
                missing.append((file.url.removeprefix(f"{self.url}/"), str(error)))
            else:
                fetched.append(file)
        if missing:
            raise ResultsIncomplete(f"{len(fetched)} files in {target}", fetched, missing)
        return fetched

    def _manifest(self, storage: Storage) -> tuple[list[StoredFile], list[tuple[str, str]]]:
        """Return what was stored, and (name, why) of what the upload could not store."""
        try:
            manifest = json.loads(storage.read(MANIFEST))
            files = [stored_file(entry) for entry in manifest["files"]]
            missing = [(str(entry["name"]), str(entry["reason"])) for entry in manifest.get("missing") or ()]
            ended = manifest["complete"] is (not missing) and manifest["count"] == len(files)
        except FileNotFoundError as error:
            message = f"the results at {self.url} are incomplete: there is no {MANIFEST}: the upload did not finish"
            raise ResultsError(message) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ResultsError(f"{self.url}/{MANIFEST} is not the manifest of a run: {error!r}") from error
        if not ended:
            raise ResultsError(f"the results at {self.url} are incomplete: their manifest says so")
        return files, missing


def _checked(session: Session, results: Results) -> Results:
    """Return the results if they are where this session's go: the end of the URL names it, and nobody else's does."""
    own = f"/{session.namespace}/{session.name}-{session.uid}"
    elsewhere = [url for url in (results.url, *(file.url for file in results.files)) if not _is_plain_url(url)]
    elsewhere += [] if results.url.rstrip("/").endswith(own) else [results.url]
    elsewhere += [f.url for f in results.files if not f.url.startswith(results.url.rstrip("/") + "/")]
    if elsewhere:
        where = plain.line(elsewhere[0])
        raise ResultsError(f"session {session.name} names results at {where}, where none of it can be: nothing is read")
    return results


def _is_plain_url(url: str) -> bool:
    # A scheme of one file system, not of one behind another: fsspec takes a chain of them, and the last may be a disk.
    return plain.is_line(url) and "::" not in url and ".." not in url.split("/")


def local_path(base: str, file: StoredFile, target: Path) -> Path:
    """Return where under `target` a file goes.

    The manifest was written by a user's run: it must not be able to name a path elsewhere, not even through a link.
    """
    name = file.url.removeprefix(base.rstrip("/") + "/")
    path = target / name
    relative = name != file.url and not name.startswith("/") and "\\" not in name
    if not plain.is_line(name):
        raise ResultsError(f"{plain.line(file.url)} leads out of {target}: its name moves a terminal's cursor")
    if not relative or ".." in Path(name).parts or not path.resolve().is_relative_to(target.resolve()):
        raise ResultsError(f"{file.url} leads out of {target}")
    return path
