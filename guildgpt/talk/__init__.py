"""Asking a model: what the bot and the terminal chat share."""
