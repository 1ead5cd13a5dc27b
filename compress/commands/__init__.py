"""The commands beside `compress MODEL`, one a file, each imported when it is run."""
