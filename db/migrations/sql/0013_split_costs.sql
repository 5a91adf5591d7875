-- Both halves of a shard cost half of it: the first is the shard itself, whose cost the reconciler lowers.

GRANT UPDATE (cost) ON shards TO textmill_dispatcher;
