"""Text as people type and read it."""
