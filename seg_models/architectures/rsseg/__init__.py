"""RSSeg (Hong et al., 2022): `model` on plain transformers, `pyramid` on CSWin, their shared `pathway` and `decoder`.

May import what `architectures` may. The way in is `seg_models.build.build_model("rsseg" | "rsseg_pyramid", ...)`.
"""
