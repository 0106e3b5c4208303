"""The one error of an export."""


class ExportError(ValueError):
    """An export that must not be written: bad input, or the file and PyTorch disagree."""
