"""What people think of answers: votes, rounds on the prompt pool, rankings, corrections."""
