"""Put a running service together from its settings."""

from __future__ import annotations

from bihuan.kernel import Clock, SystemClock
from bihuan.server.app.service import Service
from bihuan.server.control import Control, open_engine
from bihuan.server.settings import Settings
from bihuan.workspace import open_workspace


def open_service(settings: Settings, *, clock: Clock | None = None) -> Service:
    """Return the parts of a service over ``settings.workspace``.

    Parameters
    ----------
    settings
        What the service was told.
    clock
        Tells the time; None: the machine's clock.
    """
    clock = clock or SystemClock()
    settings.workspace.mkdir(parents=True, exist_ok=True)
    control = Control(open_engine(settings.database_url, pool_size=settings.database_pool), clock)
    workspace = open_workspace(settings.workspace, clock=clock)
    return Service(settings, control, workspace, clock)
