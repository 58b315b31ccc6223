"""Components shared by several model families."""
