"""GuildGPT: your guild's own micro ChatGPT, from an open base to a model you can talk to."""

__version__ = "0.1.0"
