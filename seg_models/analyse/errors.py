"""What analyses refuse."""


class AnalysisError(ValueError):
    """A model that does not have what is asked for, or a place, layer or class that it does not have."""
