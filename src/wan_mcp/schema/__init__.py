"""The value types that all parts share: enumerations, requests, plans and jobs."""
