"""The papers' figures for a checkpoint of one's own: attention maps, feature maps, regions, class embeddings, latencies of parts.

May import everything of seg_models but `export`. The way in is `python -m seg_models.analyse`.
"""
