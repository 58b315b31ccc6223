"""From a request to a plan: every parameter resolved and checked. Knows no table."""
