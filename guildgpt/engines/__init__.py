"""Engines: a loaded model behind one small contract, whatever computes it."""
