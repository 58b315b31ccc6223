"""The process that owns a device: everything that knows torch."""
