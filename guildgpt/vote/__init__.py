"""`guildgpt vote`: rounds in the terminal, one key a verdict."""
