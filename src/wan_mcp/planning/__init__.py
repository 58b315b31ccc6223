"""The step from a request to a plan: every parameter resolved and checked, without the job table."""
