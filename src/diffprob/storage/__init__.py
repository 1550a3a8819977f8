"""Files that a run and a download consist of: read and written whole, bounded, and without following links."""
