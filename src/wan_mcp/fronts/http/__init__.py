"""The HTTP front: routes, media and access checks."""
