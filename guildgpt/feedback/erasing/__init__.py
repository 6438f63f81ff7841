"""What is taken away: by members, by time, by messages that were deleted."""
