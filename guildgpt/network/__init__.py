"""The network: forward and backward, adapters, heads, the sampler."""
