"""What the doors share: the cluster, the console, options and lists of them, and who works where."""
