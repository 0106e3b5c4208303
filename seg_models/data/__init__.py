"""Data sets, label tables, transforms and loaders; `rooms` renders data anew.

One file a data set. Knows nothing of models. The way in is `data.loaders`.
"""
