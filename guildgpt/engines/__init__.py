"""Engines: a loaded model behind one small contract, whatever computes it."""

from guildgpt.engines.engine import Answer, Chunk, Engine, SamplingParams, StopReason, answer

__all__ = ["Answer", "Chunk", "Engine", "SamplingParams", "StopReason", "answer"]
