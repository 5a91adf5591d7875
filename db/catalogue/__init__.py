"""What a tenant named and its jobs refer to: label sets, trained heads.

What enters: labels, a head's weights and card, under a name. What leaves: the same, opened, for the API or under a shard's lease. All of it
is sealed under the tenant's own key; names are looked up by a keyed hash.
"""
