"""The job table and its neighbours: the only interface between fronts and engines."""
