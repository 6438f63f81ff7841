"""The only room that knows discord.py: its events become ours, our answers its messages."""
