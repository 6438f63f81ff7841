"""One run of a recipe, from the data to the report; `run.py` tells it as a story."""
