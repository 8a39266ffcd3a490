"""From a name, a file or trained networks to a (model, guide) pair, and from text to its options."""
