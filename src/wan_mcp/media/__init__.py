"""Image and video files: input images are checked, results are written atomically."""
