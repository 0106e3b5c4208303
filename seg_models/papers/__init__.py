"""What the papers print: their tables as data (a YAML file a paper), and which configuration of `build_model` each row is.

May import `build`, to make them, and `training`, to read recipes. The way in is `python -m seg_models.summary`, which counts
the configurations, and `python -m seg_models.papers`, which makes the tables of docs/papers.md of them and of the recipes of
every row.
"""
