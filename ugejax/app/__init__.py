"""The program around the method: the command line, releases and keys on disk, checkpoints, hosts, arena and report."""
