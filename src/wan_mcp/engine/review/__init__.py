"""Results of a job, compared with its prompt by a captioner."""
