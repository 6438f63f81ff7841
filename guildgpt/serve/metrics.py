"""What a server counts, for Prometheus. No label ever holds a person, a key or a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from guildgpt.engines.engine import Chunk

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, open files
        self.requests = Counter(
            "guildgpt_requests",
            "Requests by the status of their replies; 429 is who was told to come back",
            ["status"],
            registry=self.registry,
        )
        self.answers = Counter(
            "guildgpt_answers",
            "Answers by who wrote them and how they ended: stop, length, error, or cancelled "
            "by who asked",
            ["version", "finish_reason"],
            registry=self.registry,
        )
        self.tokens = Counter(
            "guildgpt_tokens",
            "Tokens of prompts that were answered, and of answers",
            ["version", "side"],
            registry=self.registry,
        )
        self.first_token = Histogram(
            "guildgpt_first_token_seconds",
            "From a question, before it waits for its turn, to the first token of its answer",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.answering = self.gauge("answering", "Answers on their way")
        self.waiting = self.gauge("waiting", "Questions that wait")
        self.held = self.gauge("held_bytes", "Bytes of all requests on their way together")
        self.release = self.gauge("release", "The release that is served; 0 where none is")
        self.version_open = Gauge(
            "guildgpt_version_open",
            "1 for a version that answers, 0 for one that does not open",
            ["version"],
            registry=self.registry,
        )
        self.store = self.gauge("store_open", "Whether the store is open and took the last write")
        self.postponed = self.gauge("store_writes_waiting", "Writes that wait for the store")

    def open_versions(self, there: Mapping[str, Exception | None]) -> None:
        """Those that can be asked now; of one that does not open, why not."""
        self.version_open.clear()
        for id, failure in there.items():
            self.version_open.labels(id).set(failure is None)

    def gauge(self, name: str, text: str) -> Gauge:
        """A number that goes up and down."""
        return Gauge(f"guildgpt_{name}", text, registry=self.registry)


class Counting:
    """Counts the answers to one request as they come."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]):
        self._metrics = metrics
        self._clock = clock
        self._asked = clock()
        self._said = False
        self._version, self._prompt_tokens = "", 0
        self._writing: set[int] = set()  # the indices of answers that have not ended

    def begin(self, version: str, prompt_tokens: int, answers: int) -> None:
        """A version begins to write them; once more where another engine died before a word."""
        self._version, self._prompt_tokens = version, prompt_tokens
        self._writing = set(range(answers))

    def chunk(self, index: int, chunk: Chunk) -> None:
        """A chunk of one of them has come."""
        if not self._said:
            self._said = True
            self._metrics.first_token.observe(self._clock() - self._asked)
            self._metrics.tokens.labels(self._version, "prompt").inc(self._prompt_tokens)
        self._metrics.tokens.labels(self._version, "answer").inc(len(chunk.ids))
        if chunk.stop:
            self._end(index, "length" if chunk.stop == "length" else "stop")

    def end(self, why: str) -> None:
        """No more comes: those that have not ended end so."""
        for index in list(self._writing):
            self._end(index, why)

    def _end(self, index: int, reason: str) -> None:
        self._writing.discard(index)
        self._metrics.answers.labels(self._version, reason).inc()
