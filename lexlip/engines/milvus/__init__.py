"""The Milvus engine: an index in a file, on a local server or on a cluster. Needs pymilvus."""
