"""A swarm rehearsed on one machine: the members' real decisions on a virtual clock, over virtual links."""
