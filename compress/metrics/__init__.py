"""How good answers are beside labels: the arithmetic, in NumPy, and the tables it fills."""
