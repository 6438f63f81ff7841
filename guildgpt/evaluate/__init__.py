"""How good is it? Held-out measures, sampled answers, and the report that shows both."""
