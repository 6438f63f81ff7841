"""Below the store: SQLite or PostgreSQL, its tables and migrations, its errors in words."""
