"""Engines: a loaded model behind one small contract, whatever computes it."""

from guildgpt.engines.engine import Chunk, Completion, Engine, SamplingParams, StopReason, complete

__all__ = ["Chunk", "Completion", "Engine", "SamplingParams", "StopReason", "complete"]
