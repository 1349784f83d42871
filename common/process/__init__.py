"""What a process needs around its work: settings, logs, pages for monitoring, a thread for a model."""
