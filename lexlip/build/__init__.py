"""Index builds: encoding, the manifest, and the bulk build."""
