"""Bases, adapters, heads, the sampler, the model folder, and its GGUF."""
