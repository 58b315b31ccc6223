"""What the tests and the benchmarks both need: neither imports the other.

`machine` describes the machine and the versions, `storm` kills processes while jobs run, `tape` records operations
where a GPU records graphs.
"""
