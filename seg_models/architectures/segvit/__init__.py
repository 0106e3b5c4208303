"""SegViT (Zhang et al., 2022): `model`, its attention-to-mask decoder (`atm`), its `loss`, and the Shrunk form.

May import what `architectures` may. The way in is `seg_models.build.build_model` with the name "segvit", "segvit_pyramid" or
"segvit_shrunk".
"""
