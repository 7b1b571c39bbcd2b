#!lua flags=allow-oom
-- Counts the live nodes that do not say that they know the newest format.
--
-- KEYS[1]  the leases of the nodes
-- KEYS[2]  the leases of the nodes that know the newest format
--
-- Reply: an array of one text: how many.

return { text(count_old_nodes(KEYS[1], KEYS[2])) }
