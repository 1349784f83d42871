"""Tools that an answer may call: how each kind of model is shown them, and how its calls are read. Pure."""
