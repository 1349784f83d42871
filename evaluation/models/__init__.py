"""A draft model and a target model in one process, without a network."""
