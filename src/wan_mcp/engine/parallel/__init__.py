"""One job on several devices: the ranks of a group, what they exchange, and how the work is split between them."""
