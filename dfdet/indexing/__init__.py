"""Released files in, manifest and tracks out: every file decoded once, in child processes that may be killed."""
