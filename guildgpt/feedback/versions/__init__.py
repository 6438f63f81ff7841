"""Which model answers: versions, releases, and the decision on a candidate."""
