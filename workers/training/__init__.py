"""Heads: small classifiers fitted on a tenant's own examples over an encoder's embeddings."""
