"""What the target model is asked for in one forward pass, and where its cache lies. Pure."""
