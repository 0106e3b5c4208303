"""Data sets, transforms and label tables. Importing this package imports none of them."""
