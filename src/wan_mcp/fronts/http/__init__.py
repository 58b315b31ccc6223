"""What serving over HTTP adds to the protocol."""
