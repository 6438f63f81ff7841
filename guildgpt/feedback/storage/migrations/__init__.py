"""The store's migrations, in order; `Database.open` runs what a database lacks.

A new one: change `guildgpt/feedback/storage/schema.py`, add `versions/v0002_….py` with the revision
"0002", and set `HEAD`. `tests/feedback/storage/test_migrations.py` says where the two differ.
"""
