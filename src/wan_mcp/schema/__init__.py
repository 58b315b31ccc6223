"""The nouns that all sides share: enumerations, requests, plans and jobs."""
