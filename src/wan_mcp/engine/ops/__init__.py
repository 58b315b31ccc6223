"""Linear layers and the fused operations between them."""
