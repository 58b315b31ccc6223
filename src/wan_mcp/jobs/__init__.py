"""The job table and what stands around it: the one interface between fronts and engines."""
