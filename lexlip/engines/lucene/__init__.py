"""The Lucene engine: an impact index through Lucene's own classes. Needs Java."""
