"""The OpenAI-compatible API over the models that are open."""
