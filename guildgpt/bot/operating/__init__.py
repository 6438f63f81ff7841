"""The bot as its operator sees it: settings, start, health, logs."""
