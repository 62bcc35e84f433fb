"""A manifest or a folder in, one table of what this machine does with it out: speed, memory, disk, next to rivals."""
