"""From a question to its answer, and what members think of it."""
