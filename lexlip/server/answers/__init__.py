"""Answers of the HTTP server: from a request to data."""
