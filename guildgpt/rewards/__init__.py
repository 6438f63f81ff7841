"""Rewards that a program can give: rules, word lists, and code that must pass its tests."""
