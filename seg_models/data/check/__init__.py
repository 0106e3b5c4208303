"""What a data set on disk holds, and what is wrong with it: counts, broken files, ids, sizes, leaks between its splits.

May import `layouts` and what reads files, nothing of training. One file a step: each image once (`examine`), what all come to
(`summary`), same and near-same images (`leaks`), pictures (`sheet`), words (`report`). The way in is `python -m
seg_models.data.check`.
"""
