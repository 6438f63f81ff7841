"""What is kept an eye on while a model trains: the lease, and what is erased meanwhile."""

from __future__ import annotations

import _thread
import asyncio
import threading
from types import TracebackType
from typing import Self

from guildgpt.errors import CircleBusy, StoreError
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.storage.leases import holder_here, is_dead
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store

LEASE = "learn"
LEASE_SECONDS = 20.0
LOOK_SECONDS = 2.0


class Watch:
    """The lease of the one process that turns the circle; entered for as long as it does.

    While it guards a decision (`guard`), the main thread gets a KeyboardInterrupt as soon as
    something that it learns from is erased (`erased`); and whenever another process has the lease
    (`lost`).
    """

    def __init__(self, url: str):
        self._url = url
        self._holder = holder_here()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._guards: str | None = None
        self._guarding = threading.Lock()
        self.erased = self.lost = False

    def __enter__(self) -> Self:
        with_store(self._url, self._take)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def guard(self, decision_id: str) -> None:
        """From now on the main thread is told if something that the decision learns from is erased,
        or was."""
        with self._guarding:
            self._guards, self.erased = decision_id, False

    def let_go(self) -> None:
        """From now on it is not: what it was told it has been told when this returns."""
        with self._guarding:
            self._guards = None

    async def _take(self, store: Store) -> None:
        while not await store.leases.acquire(LEASE, self._holder, LEASE_SECONDS):
            other = await store.leases.holder(LEASE)
            if other is None:
                continue
            if not is_dead(other):
                host, process, _ = other.rsplit(":", 2)
                raise CircleBusy(
                    f"the circle is being turned already: process {process} on {host}",
                    remedy="One at a time: wait until it ends, or stop it with Ctrl-C.",
                )
            await store.leases.release(LEASE, other)

    def _keep(self) -> None:
        try:
            asyncio.run(self._look())
        except StoreError:  # it cannot be opened, or was gone when the lease was given back
            if not self._over.is_set():
                self.lost = True
                _thread.interrupt_main()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        held_until = loop.time() + LEASE_SECONDS
        async with await Store.open(self._url, key=member_key(self._url)) as store:
            while not await asyncio.to_thread(self._over.wait, LOOK_SECONDS):
                asked = loop.time()
                try:
                    if await store.leases.acquire(LEASE, self._holder, LEASE_SECONDS):
                        held_until = asked + LEASE_SECONDS
                    else:
                        held_until = asked
                    await self._look_at_lineage(store)
                except StoreError:
                    pass  # gone for a moment; the lease says for how long
                if loop.time() >= held_until:
                    self.lost = True
                    _thread.interrupt_main()
                    return
            await store.leases.release(LEASE, self._holder)

    async def _look_at_lineage(self, store: Store) -> None:
        guarded = self._guards
        decision = await store.decisions.by_id(guarded) if guarded else None
        if decision is None or not decision.erased_at:
            return
        with self._guarding:
            if self._guards == guarded:
                self._guards, self.erased = None, True
                _thread.interrupt_main()
