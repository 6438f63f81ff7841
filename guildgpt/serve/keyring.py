"""The keys that open the API: those of the environment, and those of the store.

The store is looked at every few seconds, so that no request waits for a database, and the API goes
on while it is gone: then the keys count that it had last. What was used is counted in memory, and
written when the store is looked at.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from guildgpt.errors import StoreError
from guildgpt.feedback.records import ApiKey
from guildgpt.feedback.storage.rows import digest_of
from guildgpt.feedback.store import Store

log = logging.getLogger(__name__)
FRESH_SECONDS = 3.0  # that what the store said is taken for true
NEWS_SECONDS = 1.0  # after which a secret that nobody knows is looked for in the store
PATIENCE_SECONDS = 1.0  # for a store that is slow; then a request is judged by what is known


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: by what name it is known, and `owner`, what is stored for it is kept under."""

    name: str
    owner: str
    key: ApiKey | None = None  # of the store


AT_THIS_MACHINE = Caller("local", "local")  # who needs no key
NOBODY = Caller("", "")  # who asks for what is anybody's, or comes by the web page


@dataclass(eq=False)
class KeyRing:
    """`fixed` are the environment's secrets by their names. `store` tells of a store once it is
    open, and `expects_store` that there will be one. A `public` server is never asked without a
    key. `changed` hears how many keys there are."""

    fixed: Mapping[str, str] = field(default_factory=dict, repr=False)
    store: Callable[[], Store | None] = lambda: None
    expects_store: bool = False
    public: bool = False
    changed: Callable[[int], None] = lambda count: None
    clock: Callable[[], float] = time.monotonic
    _callers: dict[str, Caller] = field(default_factory=dict, repr=False)  # by hash
    _of_store: dict[str, Caller] = field(default_factory=dict, repr=False)
    _known: bool = False  # the store has said once which keys there are
    _looked: float = float("-inf")
    _failed: bool = False
    _looking: asyncio.Task[None] | None = None
    _tokens: Counter[str] = field(default_factory=Counter)  # by key's id, not yet written
    _requests: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for name, secret in self.fixed.items():
            hashed = digest_of(secret)
            self._callers[hashed] = Caller(name, hashed)

    async def caller(self, secret: str) -> Caller | None:
        """Who has this secret; None where nobody has."""
        hashed = digest_of(secret)  # a hash tells by its time nothing of what it was compared with
        if found := self._callers.get(hashed):
            return found
        await self._look(FRESH_SECONDS)
        if hashed not in self._of_store and secret:
            await self._look(NEWS_SECONDS)
        return self._of_store.get(hashed)

    async def is_needed(self) -> bool | None:
        """Whether there are keys, so that whoever asks needs one; None while nobody knows, since
        the store with the keys was never open."""
        if self._callers or self.public:
            return True
        await self._look(FRESH_SECONDS)
        if self._of_store:
            return True
        return False if self._known or not self.expects_store else None

    async def take(self, caller: Caller) -> None:
        """Count a request. Raises LimitReached where the key's limits are."""
        if caller.key is None:
            return
        store, key = self.store(), caller.key
        if store is not None and not self._failed:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    if self._tokens[key.id] and key.tokens_per_day is not None:
                        await self._write(store)  # what was just used counts at once
                    await store.keys.take(key)
            except (StoreError, TimeoutError):  # it is gone: whoever has a key may go on
                self._failed = True
        self._requests[key.id] += 1

    def used(self, caller: Caller, tokens: int) -> None:
        """Count the tokens of a prompt and its answers."""
        if caller.key is not None:
            self._tokens[caller.key.id] += tokens

    async def keep(self) -> None:
        """Look at the store every now and then; for ever."""
        while True:
            await self._look(FRESH_SECONDS)
            await asyncio.sleep(FRESH_SECONDS)

    async def close(self) -> None:
        """Write what was used."""
        if self._looking:
            await asyncio.wait({self._looking})
        await self._write(self.store())

    async def _look(self, fresh: float) -> None:
        """Look at the store, if what it said is older than this. A store that was in trouble is
        waited for by nobody."""
        store = self.store()
        if store is None or self.clock() - self._looked <= fresh:
            return
        if self._looking is None:
            self._looking = asyncio.create_task(self._ask(store))
        if not self._failed:
            _, late = await asyncio.wait({self._looking}, timeout=PATIENCE_SECONDS)
            self._failed = self._failed or bool(late)  # no other request waits for it

    async def _ask(self, store: Store) -> None:
        asked = self.clock()
        try:
            keys = await store.keys.all()
        except StoreError as error:
            if not self._failed:
                log.warning("the store does not tell its keys, those it had count: %s", error.what)
            self._failed = True
        else:
            found = {one.sha256: Caller(one.name, one.sha256, one) for one in keys}
            if self._of_store.keys() != found.keys():
                self.changed(len(self._callers) + len(found))
            self._of_store, self._known, self._failed = found, True, False
            await self._write(store)
        finally:
            self._looked, self._looking = asked, None

    async def _write(self, store: Store | None) -> None:
        """Tell the store what was used; what it does not take is told again."""
        if store is None or not (self._tokens or self._requests):
            return
        tokens, self._tokens = self._tokens, Counter()
        requests, self._requests = self._requests, Counter()
        try:
            await store.keys.used(tokens, requests)
        except StoreError:
            self._tokens.update(tokens)
            self._requests.update(requests)
