"""A Celery application that knows only what it is told.

Celery prefers `CELERY_BROKER_URL` and its like to what an application says, imports the module that `CELERY_CONFIG_MODULE`
names, loads with what `CELERY_LOADER` names, and takes Django's settings where `DJANGO_SETTINGS_MODULE` is set. All of these
are another application's: they would send our pointers into its Redis. Imported late, since it brings Celery.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.app.utils import Settings
from celery.loaders.base import BaseLoader


class _TellsNothing(BaseLoader):  # type: ignore[misc]  # celery has no types
    """Reads no module, neither `celeryconfig.py` nor the one that the environment names."""

    def read_configuration(self, env: str = "") -> None:
        """Nothing."""


class _AsTold(Settings):  # type: ignore[misc]  # celery has no types
    """The four settings for which Celery looks into the environment first."""

    @property
    def broker_url(self) -> Any:
        return self.get("broker_url")

    @property
    def broker_read_url(self) -> Any:
        return self.get("broker_read_url") or self.broker_url

    @property
    def broker_write_url(self) -> Any:
        return self.get("broker_write_url") or self.broker_url

    @property
    def result_backend(self) -> Any:
        return self.get("result_backend")


class OwnCelery(Celery):  # type: ignore[misc]  # celery has no types
    """Takes nothing from the environment, and is never the process's default application, which is somebody else's."""

    builtin_fixups: frozenset[str] = frozenset()
    loader_cls = _TellsNothing
    # No results are kept; a class here goes before whatever `result_backend` says.
    backend_cls = "disabled"

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        super().__init__(name, set_as_current=False, loader=_TellsNothing)
        self.conf.update(config)

    def on_init(self) -> None:
        """Called by Celery before it reads any setting. It offers no way to choose the class of them."""
        object.__setattr__(self._conf, "__class__", _AsTold)
