"""What all protocols share: the models, the token, the metrics, and what of the session's models is still missing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from af_inference import log
from af_inference.asgi import as_problem
from af_inference.auth import Token
from af_inference.backend import Backend
from af_inference.metrics import Metrics
from af_inference.registry import Registry
from af_inference.repository import Repository
from af_inference.runtime import Runtime
from af_inference.settings import CatalogueModel, Settings
from af_inference.sources import Files, Source

_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 30.0
_LAST_RETRY_SECONDS = 4.0
"""Of a file that cannot be loaded: it will not be another one. A backend may still come."""
_LOOK_SECONDS = 1.0


@dataclass
class Server:
    """The state of the process.

    Attributes
    ----------
    repository
        Of files; with a backend it has none, and none can be uploaded.
    missing
        Models that the session names and that have not answered yet, with the reason.
    given_up
        They never will: the process is to end, with the reason as its last word.
    """

    settings: Settings
    token: Token
    repository: Repository
    registry: Registry
    metrics: Metrics
    missing: dict[str, str] = field(default_factory=dict)
    given_up: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, settings: Settings) -> Server:
        """Return the server that the settings describe; it has loaded nothing yet.

        Raises
        ------
        InvalidSettings
            It cannot be had.
        """
        repository = Repository(settings.models, settings.store)
        source: Source = Files(repository, Runtime.of(settings), settings.limits)
        if settings.backend is not None:
            source = Backend(settings.backend, settings.models, settings.limits)
        registry = Registry(source, {model.name for model in settings.models}, settings.limits.loaded)
        missing = {model.name: "it is being loaded" for model in settings.models}
        return cls(settings, Token.read(settings.token), repository, registry, Metrics(registry), missing)

    @property
    def ready(self) -> bool:
        """Whether each model that the session names has answered, and what answers has not gone since."""
        return not self.missing and self.registry.source.available

    @property
    def reasons(self) -> str:
        """Why models that the session names do not answer, each with where it was looked for."""
        absent = (model for model in self.settings.models if model.name in self.missing)
        return "; ".join(
            f"model {m.name} {m.version or '(highest version)'} in {m.path}: {self.missing[m.name]}" for m in absent
        )

    def start(self, give_up: Callable[[], None] = lambda: None) -> threading.Thread:
        """Load the session's models, and from then on follow what others do to the store, in a thread of its own.

        Parameters
        ----------
        give_up
            Called when that is over because a model cannot be loaded.
        """
        thread = threading.Thread(target=self._follow, args=(give_up,), name="follow", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End that thread."""
        self._stop.set()

    def _follow(self, give_up: Callable[[], None]) -> None:
        pause = _RETRY_SECONDS
        while not self._load_models() and not self._stop.is_set():
            if self.settings.backend is None and pause > _LAST_RETRY_SECONDS:
                self.given_up = True
                give_up()
                return
            self._stop.wait(pause)
            pause = min(2 * pause, _LONGEST_RETRY_SECONDS)
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                self.registry.refresh()
            except Exception as error:  # noqa: BLE001  (a store that is away for a while must not end this thread)
                log.error("the store cannot be read", error)

    def _load_models(self) -> bool:
        failed = {model.name: reason for model in self.settings.models if (reason := self._load(model))}
        self.missing = failed
        if not failed:
            log.info("ready", models=len(self.settings.models))
        return not failed

    def _load(self, model: CatalogueModel) -> str:
        try:
            self.registry.load(model.name, model.version)
        except Exception as error:  # noqa: BLE001  (a volume that cannot be read must not end the thread that waits for it)
            return str(as_problem(error))
        return ""
