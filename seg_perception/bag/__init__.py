"""Recordings: reading them, scoring a model on them, reports and videos of it, playing them back."""
