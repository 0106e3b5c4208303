"""Superpixel Transformers (Zhu et al., 2023): `model`, and `deployed`, the same function folded for inference.

May import what `architectures` may. The way in is `seg_models.build.build_model("superpixel_transformer", ...)`.
"""
