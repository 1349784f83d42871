"""What a hybrid saves an operator: one table per pair, by scheme."""
