"""Constraints: demands on an answer's form and words that a program can check."""
