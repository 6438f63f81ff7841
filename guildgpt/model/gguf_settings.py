"""A model's options as transformers takes them: what config.json says, and else the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guildgpt.errors import ModelError


class Settings:
    """The options by name; it remembers which were asked for."""

    def __init__(self, config: Any, where: Path):
        self._config = config
        self.where = where
        self.asked: set[str] = set()

    def __getitem__(self, option: str) -> Any:
        """The value of an option, under transformers' common name or the model's own."""
        self.asked.add(option)
        return getattr(self._config, option)

    def get(self, option: str) -> Any:
        """The value of an option that this kind of model may not have; then None."""
        self.asked.add(option)
        return getattr(self._config, option, None)

    @property
    def heads(self) -> int:
        return int(self["num_attention_heads"])

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values, each shared by a group of heads."""
        return int(self.get("num_key_value_heads") or self.heads)

    @property
    def head_dim(self) -> int:
        return int(self.get("head_dim") or self["hidden_size"] // self.heads)

    def refuse(self, option: str, why: str) -> ModelError:
        """What to raise for an option with a value that llama.cpp cannot represent."""
        return ModelError(
            f"{option} is {self[option]!r}, and {why}",
            where=self.where,
            remedy="A GGUF of it would answer wrongly, so none is written; " + WITHOUT_GGUF,
        )


WITHOUT_GGUF = "`guildgpt chat FOLDER` talks to a model without one, through torch."


def read_settings(folder: Path) -> Settings:
    """The options of the model in a folder; ModelError where transformers does not take them."""
    from transformers import AutoConfig

    from guildgpt.model.quiet import first_line, quiet

    where = folder / "config.json"
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # its validation has many kinds
        raise ModelError(
            f"transformers does not take this configuration ({first_line(error)})",
            where=where,
            remedy="Mend it, or take it again from where the model came from.",
        ) from error
    return Settings(config, where)
