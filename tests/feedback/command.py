"""A command called as an operator calls it."""

from __future__ import annotations

from dataclasses import dataclass

from typer import Typer
from typer.testing import CliRunner, Result

from guildgpt.errors import GuildError


@dataclass(frozen=True)
class Command:
    """One of our commands, at a plain terminal that is so wide."""

    app: Typer
    columns: int

    def ask(self, *arguments: object, answer: str | None = None) -> Result:
        environment = {"COLUMNS": str(self.columns), "TERM": "dumb"}
        given = [*map(str, arguments)]
        return CliRunner().invoke(self.app, given, input=answer, env=environment)

    def told(self, *arguments: object, answer: str | None = None) -> str:
        """What it says when it ends well."""
        result = self.ask(*arguments, answer=answer)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def refused(self, *arguments: object, kind: type[GuildError] = GuildError) -> GuildError:
        """The error that it ends with."""
        result = self.ask(*arguments)
        assert isinstance(result.exception, kind), (result.output, result.exception)
        return result.exception
