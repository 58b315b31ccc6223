import wan_mcp.engine  # noqa: F401  # ahead of torch: it settles how torch's threads wait
