"""Out of the store and into it: rows to learn from, trees, arena rows."""
