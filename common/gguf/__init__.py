"""GGUF files, as llama.cpp makes them: what a file says about its model, read without any model library."""
