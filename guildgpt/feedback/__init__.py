"""The feedback store: conversations, deliveries, votes and ratings, in SQLite or PostgreSQL."""
