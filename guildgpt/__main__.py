"""`python -m guildgpt`."""

from guildgpt.cli import main

main()
