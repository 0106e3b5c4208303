"""Published layouts in miniature."""
