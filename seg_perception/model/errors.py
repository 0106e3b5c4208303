"""The one error of reading a model, and what to do about it."""

EXPORT_HINT = "export it with `python -m seg_models.export`"


class ModelFileError(ValueError):
    """A file cannot serve as the deployment model. The message is one line: what came, what was expected."""
