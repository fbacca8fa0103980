"""The OpenSearch engine: an index on the shards of a cluster. Needs opensearch-py."""
