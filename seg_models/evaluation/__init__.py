"""How a model is judged: whole images, sliding windows, several scales; analyses.

May import models, data and metrics; never export. The way in is `python -m seg_models.evaluate`.
"""
