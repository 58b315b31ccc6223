"""Pictures and videos as files: checked on the way in, whole on the way out."""
