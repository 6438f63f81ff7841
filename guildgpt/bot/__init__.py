"""The Discord bot: one adapter file knows discord.py, the rest is plain Python."""
