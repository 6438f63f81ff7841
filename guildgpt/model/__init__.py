"""The model folder: written, found, its version; GGUF."""
