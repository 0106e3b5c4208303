"""The 3x3 superpixel neighbourhood: gathering, local cross-attention in both directions, association, painting."""
