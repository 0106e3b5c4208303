"""Trainings beside each other: what lies in their folders as a list, a comparison, and curves.

Reads `recipe.yaml`, `environment.jsonl` and `metrics.jsonl`, and no checkpoint. The way in is `python -m seg_models.runs`.
"""
