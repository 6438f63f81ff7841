"""The loop, and the stages that it trains."""
