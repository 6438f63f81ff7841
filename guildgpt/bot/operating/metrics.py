"""What Prometheus may count. No label ever holds a person, a text or an id."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320)


class Metrics:
    """The counters of one bot, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answered = Histogram(
            "guildgpt_answer_seconds",
            "From an event to the end of its answer, by kind of event and how it ended",
            ["kind", "state"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.acknowledged = Histogram(
            "guildgpt_acknowledge_seconds",
            "From an event to the first sign that it was heard",
            buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 3),
            registry=self.registry,
        )
        self.feedback = self._counter("guildgpt_feedback", "Ratings, votes and reports", "kind")
        self.failures = self._counter("guildgpt_failures", "What went wrong, by where", "part")
        self.moderated = self._counter(
            "guildgpt_moderated", "Texts withheld, by side and rule", "side", "rule"
        )
        self.duplicates = self._counter("guildgpt_duplicates", "Events that came again")
        self.connected = self._gauge("guildgpt_connected", "Whether Discord's gateway is connected")
        self.commands = self._gauge(
            "guildgpt_commands_registered", "Whether Discord took the commands at this start"
        )
        self.guilds = self._gauge("guildgpt_guilds", "Guilds the bot is in")
        self.answering = self._gauge("guildgpt_answering", "Answers on their way")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)
