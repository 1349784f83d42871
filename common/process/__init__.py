"""What a process needs around its work: settings, logs, monitoring pages, a thread for its model."""
