"""What is asked of the target model in one forward pass, and where its key/value cache lies. Pure."""
