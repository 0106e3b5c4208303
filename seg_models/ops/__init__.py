"""The 3x3 superpixel neighbourhood: gathering, local cross-attention in both directions, association, painting.

Imports torch alone. The way in is `ops.neighbourhood`; `ops.neighbourhood_reference` is the same in plain loops, for tests.
"""
