"""The machine that an agent runs on: processor, memory, heat, threads, power."""
