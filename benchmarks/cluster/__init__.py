"""What a cluster's queue can bear: the load of one dispatcher, and the order of jobs on a thousand GPUs."""
