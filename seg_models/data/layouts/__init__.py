"""Data sets as they are published: which image belongs to which mask, and what the masks' values mean.

One file a data set; none of them converts or copies anything. The way in is `layouts.open_split`.
"""
