"""What the papers print: their tables as data (a YAML file a paper), and which configuration of `build_model` each row is.

May import `build`, to make them. The way in is `python -m seg_models.summary`.
"""
