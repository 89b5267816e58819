"""The gateway processes there are, and how far each has come with the changes of keys."""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from gateway.models import GatewayProcess

# By then nobody wonders any more what became of it.
FORGOTTEN_AFTER = timedelta(hours=1)
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    host: str
    pid: int

    @property
    def identity(self) -> dict[str, Any]:
        return {"host": self.host[:200], "pid": self.pid}


def acknowledge(process: Process, change: int) -> None:
    """Say that the process lives and goes by everything up to `change`."""
    now = timezone.now()
    mine = GatewayProcess.objects.filter(**process.identity)
    if mine.filter(keys_applied=change).update(heartbeat_at=now):
        return
    if mine.update(heartbeat_at=now, keys_applied=change, keys_applied_at=now):
        return
    GatewayProcess.objects.filter(heartbeat_at__lt=now - FORGOTTEN_AFTER).delete()
    GatewayProcess.objects.update_or_create(
        **process.identity,
        defaults={
            "started_at": now,
            "heartbeat_at": now,
            "keys_applied": change,
            "keys_applied_at": now,
        },
    )


def forget(process: Process) -> None:
    GatewayProcess.objects.filter(**process.identity).delete()


def not_yet_at(change: int) -> list[GatewayProcess]:
    """The live ones that do not go by `change` yet."""
    return list(GatewayProcess.objects.live(timezone.now()).behind(change))


def silent_before(change: int) -> list[GatewayProcess]:
    """Those that have not been heard of lately and may go by what was before `change`."""
    live = GatewayProcess.objects.live(timezone.now()).values("pk")
    return list(GatewayProcess.objects.behind(change).exclude(pk__in=live))


def wait_for(change: int, timeout_s: float) -> list[GatewayProcess]:
    """Blocks until all live processes go by `change`; after `timeout_s` it returns who does not."""
    give_up_at = time.monotonic() + timeout_s
    while (missing := not_yet_at(change)) and time.monotonic() < give_up_at:
        time.sleep(POLL_S)
    return missing
