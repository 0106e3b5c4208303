"""Inference engines: one file each, behind the base class in `base`; `select` chooses."""
