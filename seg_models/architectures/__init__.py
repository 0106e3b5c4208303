"""The papers' models: one file a paper, or one folder where it needs several.

May import `backbones`, `ops`, `losses`, `segmentation_model` and `prediction`; knows nothing of training, data or export.
The way in is `seg_models.build.build_model`.
"""
