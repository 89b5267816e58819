"""How a gateway process hears of changes of keys and teams, and says that it has.

A counter in the database moves with every change. A process that sees it move looks every key up
again, ends the requests under way whose key would now be refused, and then writes down how far it
has come: that is its acknowledgement.
"""

import asyncio
import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import replace

from django.conf import settings
from django.utils import timezone

from gateway import key_use, keys, leases, processes
from gateway.database import OwnThread
from gateway.keys import VerifiedKeys
from gateway.leases import Lease
from models_registry import changes

logger = logging.getLogger(__name__)

# Two polls may be late or lost before verdicts on keys have to be checked each second again.
VOUCHED_POLLS = 3
HEARTBEAT_S = 1.0
FLUSH_S = 10.0


class KeyWatch:
    """Watches from `start` to `aclose`, in a thread of its own: requests wait for the other one."""

    def __init__(self, verified: VerifiedKeys | None = None) -> None:
        self._verified = verified or keys.verified()
        self._process = processes.Process(socket.gethostname(), os.getpid())
        self._database = OwnThread("keys")
        self._applied: int | None = None
        self._told_at = 0.0
        self._flushed_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._is_cut_off = False

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._keep_up())

    async def aclose(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        with suppress(Exception):
            await self._database.run(self._say_goodbye)
        await self._database.aclose()

    async def poll(self) -> None:
        """One round; raises DependencyUnavailable."""
        asked_at = time.monotonic()
        change = await self._database.run(changes.value, changes.KEYS)
        is_news = change != self._applied
        if is_news:
            self._verified.outdate()
        await self._renew_leases()
        self._applied = change
        self._verified.vouch(asked_at + VOUCHED_POLLS * settings.API_KEY_POLL_S)
        if is_news or asked_at - self._told_at >= HEARTBEAT_S:
            await self._database.run(processes.acknowledge, self._process, change)
            self._told_at = asked_at
        if asked_at - self._flushed_at >= FLUSH_S:
            await self._database.run(key_use.flush)
            self._flushed_at = asked_at

    async def _renew_leases(self) -> None:
        """Also those whose key was verified before a change that is applied by now."""
        epoch = self._verified.epoch
        behind = [lease for lease in leases.held() if lease.caller.epoch != epoch]
        if behind:
            callers = {lease.caller for lease in behind}
            standings = await self._database.run(keys.recheck, callers)
            for lease in behind:
                _renew(lease, standings, epoch)

    def _expire_leases(self) -> None:
        now = timezone.now()
        for lease in leases.held():
            lease.expire(now)

    def _say_goodbye(self) -> None:
        key_use.flush()
        processes.forget(self._process)

    async def _keep_up(self) -> None:
        while True:
            # Without the database too.
            self._expire_leases()
            await self._poll_if_possible()
            await asyncio.sleep(settings.API_KEY_POLL_S)

    async def _poll_if_possible(self) -> None:
        try:
            await self.poll()
        except Exception as error:
            # Said once for each outage.
            if not self._is_cut_off:
                logger.error("cannot read what has changed of the keys", exc_info=error)
            self._is_cut_off = True
        else:
            if self._is_cut_off:
                logger.info("changes of keys can be read again")
            self._is_cut_off = False


def _renew(lease: Lease, standings: "keys.Standings", epoch: int) -> None:
    standing = standings[lease.caller]
    if isinstance(standing, keys.Caller):
        standing = replace(standing, epoch=epoch)
    lease.renew(standing)
