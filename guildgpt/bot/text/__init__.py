"""Text on its way into and out of Discord."""
